"""Search by example: an index over features, near-duplicates, clusters and segments (extra `search` beyond a million rows)."""

from typing import TYPE_CHECKING

from ..lazy import lazy_names

if TYPE_CHECKING:
    from .clusters import Clusters, cluster, write_clusters
    from .duplicates import Duplicate, find_duplicates
    from .examples import Example, embed_example, encoder_of, find
    from .index import Hit, Index, Pathway, build_index, open_index
    from .likeness import percentile_in_words, percentile_of, random_cosines
    from .pictures import contact_sheet, thumbnail
    from .segment_picture import draw_segments
    from .segments import Segmentation, segment

__getattr__, __all__ = lazy_names(
    __name__,
    {
        ".clusters": ["Clusters", "cluster", "write_clusters"],
        ".duplicates": ["Duplicate", "find_duplicates"],
        ".examples": ["Example", "embed_example", "encoder_of", "find"],
        ".index": ["Hit", "Index", "Pathway", "build_index", "open_index"],
        ".likeness": ["percentile_in_words", "percentile_of", "random_cosines"],
        ".pictures": ["contact_sheet", "thumbnail"],
        ".segment_picture": ["draw_segments"],
        ".segments": ["Segmentation", "segment"],
    },
)
