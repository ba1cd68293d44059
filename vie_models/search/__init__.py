"""Search by example: an index over features, near-duplicates, clusters and segments (extra `search` beyond a million rows)."""

from typing import TYPE_CHECKING

from ..lazy import lazy_names

if TYPE_CHECKING:
    from .clusters import Clusters, cluster
    from .duplicates import Duplicate, find_duplicates
    from .examples import Example, find
    from .index import Hit, Index, build_index, open_index
    from .pictures import contact_sheet, thumbnail
    from .segments import Segmentation, segment

__all__ = [
    "Clusters",
    "Duplicate",
    "Example",
    "Hit",
    "Index",
    "Segmentation",
    "build_index",
    "cluster",
    "contact_sheet",
    "find",
    "find_duplicates",
    "open_index",
    "segment",
    "thumbnail",
]
__getattr__ = lazy_names(
    __name__,
    {
        "Clusters": ".clusters",
        "Duplicate": ".duplicates",
        "Example": ".examples",
        "Hit": ".index",
        "Index": ".index",
        "Segmentation": ".segments",
        "build_index": ".index",
        "cluster": ".clusters",
        "contact_sheet": ".pictures",
        "find": ".examples",
        "find_duplicates": ".duplicates",
        "open_index": ".index",
        "segment": ".segments",
        "thumbnail": ".pictures",
    },
)
