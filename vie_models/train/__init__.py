"""Training, on anything from one CPU to many GPUs. Needs the extra `train`."""
