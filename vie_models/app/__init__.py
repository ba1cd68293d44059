"""A page to look at videos with an encoder."""
