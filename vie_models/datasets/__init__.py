"""Which videos: lists, the annotations of real data sets, rendered worlds, and writing videos anew. No training here."""
