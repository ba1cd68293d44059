"""Training objectives, and the networks that they need."""
