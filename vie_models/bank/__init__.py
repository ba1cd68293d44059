"""The memory bank, sharded over ranks, with k-means over its rows and votes of its nearest rows. Needs only torch."""

from typing import TYPE_CHECKING

from ..lazy import lazy_names

if TYPE_CHECKING:
    from .clustering import KMeans, kmeans
    from .memory_bank import MemoryBank
    from .ranks import World, world
    from .voting import KNN, knn, knn_of_rows

__getattr__, __all__ = lazy_names(
    __name__,
    {
        ".clustering": ["KMeans", "kmeans"],
        ".voting": ["KNN", "knn", "knn_of_rows"],
        ".memory_bank": ["MemoryBank"],
        ".ranks": ["World", "world"],
    },
)
