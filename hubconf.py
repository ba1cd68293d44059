"""torch.hub entry points: torch.hub.help(REPO, "vie_3dresnet") tells about one."""

dependencies = ["filelock", "numpy", "safetensors", "torch", "torchvision", "tqdm"]
