"""Results: each page of docs/ that has some names the command here that prints them, `python -m reproduce.NAME`, from a clone.

moving_textures (docs/moving-textures.md), transfer (the same page, on real videos), checkpoints (what comes with the package).
Speed is measured in benchmarks/.
"""
