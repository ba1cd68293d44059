"""torch.hub entry points, one for each model. `torch.hub.help(REPO, "vie_3dresnet")` describes one of them."""

dependencies = ["filelock", "huggingface_hub", "numpy", "safetensors", "torch", "torchvision", "tqdm", "yaml"]

from vie_models.hub import ENTRY_POINTS  # noqa: E402

globals().update(ENTRY_POINTS)
