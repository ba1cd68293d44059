"""N rows shared over ranks: the memory bank, its clusters, and the votes of its nearest rows. Needs torch alone."""
