"""From video files to tensors."""
