"""Extracts features of many videos to a folder, on one machine or a cluster."""
