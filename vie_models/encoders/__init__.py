"""Any encoder: what extraction needs of a model, and the models of other packages behind it."""

from typing import TYPE_CHECKING

from ..lazy import lazy_names

if TYPE_CHECKING:
    from .load import as_encoder, load_encoder
    from .protocol import OUTPUT, VideoEncoder
    from .wrapped import Layout, WrappedModule

__getattr__, __all__ = lazy_names(
    __name__,
    {
        ".load": ["as_encoder", "load_encoder"],
        ".protocol": ["OUTPUT", "VideoEncoder"],
        ".wrapped": ["Layout", "WrappedModule"],
    },
)
