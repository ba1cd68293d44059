"""How weights are made: instance recognition and local aggregation, from one CPU to many GPUs. Needs the extra `train`."""
