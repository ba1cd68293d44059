"""Reproduces the results in docs/: each page names the command `python -m reproduce.NAME` that prints its numbers.

moving_textures: docs/moving-textures.md. transfer: the same page, real videos. checkpoints: the weights that come with the
package. footage_world, footage_training, footage and footage_finetune: weights from photographs and footage, which have no page
yet. Run the commands in a clone. Speed is measured in benchmarks/.
"""
