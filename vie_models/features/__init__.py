"""Features at scale: many videos, a folder of features, on one machine or a cluster."""
