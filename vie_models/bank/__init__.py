"""The memory bank, sharded over ranks, with k-means over its rows and votes of its nearest rows. Needs only torch."""
