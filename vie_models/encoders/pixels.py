"""Raw pixels as an encoder, the baseline that any other has to beat."""

from torch import nn

from ..clip_spec import ClipSpec
from .wrapped import WrappedModule

PIXELS = "pixels"
SPEC = ClipSpec(num_frames=4, frame_interval=20, resize=(16, 16), crop=16, mean=(0.5, 0.5, 0.5), std=(1.0, 1.0, 1.0))


def raw_pixels() -> WrappedModule:
    """Returns an encoder whose embedding is four frames, 0.8 s apart, at 16 x 16 pixels, from -0.5 to 0.5: [B, 3072]."""
    return WrappedModule(nn.Flatten(), SPEC, name=PIXELS)
