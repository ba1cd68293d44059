"""Reproduces the results in docs/: each page names the command `python -m reproduce.NAME` that prints its numbers.

moving_textures: docs/moving-textures.md. transfer: the same page, real videos. footage_world (what is trained on),
footage_training, footage, footage_close, footage_finetune and footage_over_time: docs/reproduction.md. names: docs/weights.md.
checkpoints: the weights that come with the package. Run the commands in a clone. Speed is measured in benchmarks/.
"""
