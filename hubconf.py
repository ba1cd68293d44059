"""torch.hub entry points. `torch.hub.help(REPO, "vie_3dresnet")` describes one of them."""

dependencies = ["filelock", "huggingface_hub", "numpy", "safetensors", "torch", "torchvision", "tqdm", "yaml"]

from vie_models.hub import (  # noqa: E402, F401
    vie_3dresnet,
    vie_3dresnet_small,
    vie_3dresnet_tiny,
    vie_embedder,
    vie_fast,
    vie_single,
    vie_single_small,
    vie_single_tiny,
    vie_slow,
    vie_slowfast,
    vie_slowfast_small,
    vie_slowfast_tiny,
    vie_trn,
    vie_twopathway,
    vie_twopathway_slow,
    vie_twopathway_small,
    vie_twopathway_tiny,
)
