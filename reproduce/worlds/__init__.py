"""The rendered videos that our weights learned from.

moving_textures: objects with known factors. photo_motion: videos from photographs (photo_scenes has what they show). Both are
commands: `python -m reproduce.worlds.moving_textures OUT`, `python -m reproduce.worlds.photo_motion PHOTOS OUT`.
"""
