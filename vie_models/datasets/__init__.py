"""Datasets: list files, the annotations of real datasets, rendered videos, and re-encoding. No training here."""
