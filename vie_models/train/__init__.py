"""How weights are made, from one CPU to many GPUs. Needs the extra `train`."""
