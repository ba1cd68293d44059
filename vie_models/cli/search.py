"""`vie index`, `search`, `duplicates`, `cluster` and `segment`."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
import time
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import arg

from .arguments import command
from .extract import default_device
from .tables import format_table


@command(features="FEATURES")
@dataclasses.dataclass(kw_only=True)
class IndexFeatures:
    """Builds an index over a folder of features, and replaces the one that is there.

    The index finds the clips nearest to a video, a moment or other clips. It is memory-mapped. Run it again when there are new
    features. You can stop it at any time: what was there before stays as it was.
    """

    features: Path
    """Output folder of `vie extract`."""
    array: str = "embedding"
    """What to index: embedding, or the name of a layer that was extracted with --pool avg."""
    kind: Literal["auto", "exact", "ivf", "hnsw"] = "auto"
    """exact compares with every row. ivf and hnsw look at some of them; they need `pip install 'vie_models[search]'`.
    auto is exact for up to a million rows, and then ivf."""
    out: Path | None = None
    """Folder of the index. Default: FEATURES/index/ARRAY."""

    def run(self) -> int:
        from ..search import build_index

        began = time.perf_counter()
        index = build_index(self.features, self.array, self.kind, out=self.out, progress=True)
        size = f"{len(index)} clips of {len(index.videos)} videos, {index.rows.shape[1]} numbers each"
        print(f"{index.kind} index of {size}, built in {time.perf_counter() - began:.1f} s: {index.folder}")
        return 0


@command(index="FEATURES", video="VIDEO")
@dataclasses.dataclass(kw_only=True)
class Search:
    """Finds the clips of an index that are most like a video, a moment of it, or several examples.

    The video is embedded as the features of the index were made. Clips that overlap the examples themselves, or
    a better clip of the same video, are left out. Prints a table, the most similar first.
    """

    index: Path
    """Folder of features that `vie index` was run on, or of the index itself."""
    video: str
    """Path or http(s) address of a video."""
    at: float | None = None
    """Middle of a moment, in seconds after the first frame. Default: the whole video."""
    window: float | None = None
    """Length of the moment, in seconds. Default: one clip."""
    and_: Annotated[tuple[str, ...], arg(name="and", metavar="VIDEO[@SECONDS] ...")] = ()
    """More examples: find what is like all of them. clip.mp4@12.5 is a moment, clip.mp4 a whole video."""
    minus: Annotated[tuple[str, ...], arg(metavar="VIDEO[@SECONDS] ...")] = ()
    """Examples that the clips should be unlike: their embedding is subtracted."""
    k: int = 20
    """Number of clips to find."""
    percentile: float | None = None
    """Leave out clips that are less alike than this percentage of random pairs of the index. 0 keeps all.
    Default: 99; with --minus, which makes all cosines low, 0."""
    pathway: Literal["static", "dynamic"] | None = None
    """Compare only the appearance (static) or only the motion (dynamic). For embeddings of two-pathway models."""
    keep_own: bool = False
    """Do not leave out the clips that overlap the examples themselves."""
    overlaps: bool = False
    """Do not leave out clips that overlap a better one of the same video."""
    videos: bool = False
    """Find videos: only the best clip of each, and none of the examples' own. --overlaps changes nothing then."""
    array: str | None = None
    """Which of the features' indexes to search. Default: that of the embedding, or the only one."""
    json: bool = False
    """Print one line of JSON per clip."""
    sheet: Path | None = None
    """PNG file to write, with a picture of every clip."""
    model: str | None = None
    """Name of the model or weight set that made the features. Default: the one in their manifest."""
    weights: Path | None = None
    """Your own weights, if they made the features."""

    def run(self) -> int:
        from ..search import Example, contact_sheet, find, open_index
        from ..search.examples import shown
        from ..search.likeness import LEAST

        examples = [Example(self.video, at=self.at, window=self.window)]
        examples += [Example(*_moment(word), window=None) for word in self.and_]
        examples += [Example(*_moment(word), minus=True) for word in self.minus]
        index = open_index(self.index, self.array)
        model = _encoder(self.model or index.settings["model"], self.weights) if self.model or self.weights else None
        least = (0 if self.minus else LEAST) if self.percentile is None else self.percentile
        hits = find(
            index,
            examples,
            self.k,
            model=model,
            pathway=self.pathway,
            keep_own=self.keep_own,
            overlaps=self.overlaps,
            videos=self.videos,
            percentile=least,
        )
        if self.json:
            for hit in hits:
                print(json.dumps(dataclasses.asdict(hit)))
        else:
            print(
                format_table(
                    ["cosine", "percentile", "start, s", "end, s", "video"],
                    [[f"{h.similarity:.3f}", _percentile(h.percentile), _s(h.start), _s(h.end), h.name] for h in hits],
                )
            )
        if 0 < len(hits) < self.k and least > 0:
            print(f"left out what is below percentile {least:g}; --percentile 0 shows the rest, too", file=sys.stderr)
        if not hits:
            print("nothing is as much alike: --percentile 0 shows the nearest clips all the same", file=sys.stderr)
        if self.sheet and hits:
            title = "most like the first; below each its cosine, and the percentage of random pairs that are less alike"
            drawn = contact_sheet(hits, self.sheet, title=title, query=shown(index, examples[0]))
            print(f"wrote {drawn}", file=sys.stderr)
        return 0


@command(index="FEATURES")
@dataclasses.dataclass(kw_only=True)
class Duplicates:
    """Finds near-duplicate clips of different videos, with their times.

    Clips of two videos match if their embeddings are nearly equal and the times of several matches agree. Prints a line for
    each pair of videos, the most similar first.
    """

    index: Path
    """Folder of features that `vie index` was run on, or of the index itself."""
    threshold: float | None = None
    """Least cosine similarity of clips that match. Default: 0.85, which was chosen on planted copies."""
    ratio: float | None = None
    """Most that the distance of clips that match may be, as a part of their distance to the tenth most similar video.
    Default: 0.2, chosen in the same way; 1 leaves only the threshold."""
    matches: int = 2
    """Least number of clips that must match; of videos with fewer clips, all."""
    percentile: float | None = None
    """Leave out pairs that are less alike than this percentage of random pairs of the index. 0 keeps all. Default: 99."""
    array: str | None = None
    """Which of the features' indexes to search. Default: that of the embedding, or the only one."""
    json: bool = False
    """Print one line of JSON per pair."""
    sheet: Path | None = None
    """PNG file to write, with pictures of both clips of the first 50 pairs."""

    def run(self) -> int:
        from ..search import contact_sheet, find_duplicates, open_index
        from ..search.duplicates import RATIO, THRESHOLD
        from ..search.likeness import LEAST

        index = open_index(self.index, self.array)
        pairs = find_duplicates(
            index,
            THRESHOLD if self.threshold is None else self.threshold,
            ratio=RATIO if self.ratio is None else self.ratio,
            matches=self.matches,
            percentile=LEAST if self.percentile is None else self.percentile,
            progress=True,
        )
        if self.json:
            for pair in pairs:
                print(json.dumps(dataclasses.asdict(pair)))
        elif pairs:
            rows = [
                [
                    f"{p.similarity:.3f}",
                    _percentile(p.percentile),
                    str(p.matches),
                    f"{p.speed:.2f}",
                    *(f"{h.name} {_s(h.start)}-{_s(h.end)}" for h in (p.first, p.second)),
                ]
                for p in pairs
            ]
            print(format_table(["cosine", "percentile", "matches", "speed", "first, s", "second, s"], rows))
        found = "1 pair of videos has" if len(pairs) == 1 else f"{len(pairs)} pairs of videos have"
        print(f"{found} near-duplicate clips", file=sys.stderr)
        if self.sheet and pairs:
            hits = [
                dataclasses.replace(hit, similarity=p.similarity, percentile=p.percentile)
                for p in pairs[:50]
                for hit in (p.first, p.second)
            ]
            print(f"wrote {contact_sheet(hits, self.sheet, columns=4, title='near-duplicates, side by side')}", file=sys.stderr)
        return 0


@command(index="FEATURES")
@dataclasses.dataclass(kw_only=True)
class Cluster:
    """Groups the clips of an index by likeness, and draws the middle of each group.

    Every video has the same say, however long it is. Writes clusters.csv, with the cluster of every clip; a sheet of pictures
    for each cluster: the clips nearest to its center, of different videos if there are; clusters.png, with a row for each
    cluster; and map.png, with a point for each clip. The cosine that is printed is the mean of pairs of different videos.
    """

    index: Path
    """Folder of features that `vie index` was run on, or of the index itself."""
    out: Path
    """Folder for the table and the sheets."""
    k: int = 20
    """Number of clusters."""
    seed: int = 0
    """Seed of the first centers."""
    pictures: bool = True
    """Draw the sheets; the videos must be where they were."""
    array: str | None = None
    """Which of the features' indexes to cluster. Default: that of the embedding, or the only one."""

    def run(self) -> int:
        from ..search import cluster, open_index, write_clusters

        index = open_index(self.index, self.array)
        found = cluster(index, self.k, seed=self.seed)
        path = write_clusters(index, found, self.out, pictures=self.pictures)
        rows = []
        for i, hits in enumerate(found.medoids):
            cosine = float(found.likeness[i])
            alike = ["", ""] if math.isnan(cosine) else [f"{cosine:.3f}", _percentile(float(index.percentiles(cosine)))]
            rows.append([str(i), str(found.sizes[i]), str(found.videos[i]), *alike, hits[0].name if hits else ""])
        print(format_table(["cluster", "clips", "videos", "cosine", "percentile", "nearest to the center"], rows))
        print(f"wrote {path}{', clusters.png, map.png and a sheet for each cluster' * self.pictures}", file=sys.stderr)
        return 0


@command(model="MODEL", video="VIDEO")
@dataclasses.dataclass(kw_only=True)
class Segment:
    """Finds where a video changes, and draws how alike its moments are.

    A boundary is a time at which moments before it are alike, moments after it are alike, but not across it (Foote, 2000).
    Prints the segments.
    """

    model: str
    """Name of a model or weight set; `vie list` shows them."""
    video: str
    """Path or http(s) address of a video."""
    weights: Path | None = None
    """Your own weights: a folder, .safetensors, TensorFlow checkpoint or PyTorch state_dict. Default: the published weights."""
    window: float | None = None
    """Length of a moment, in seconds. Default: the length of the model's clip."""
    stride: float = 0.5
    """Seconds from one moment to the next."""
    kernel: float | None = None
    """Seconds on each side of a boundary that are compared. Closer boundaries count as one. Default: 4."""
    threshold: float | None = None
    """How much more alike moments must be on each side than across, in cosine similarity. Default: 0.1."""
    out: Path | None = None
    """PNG file to write. Default: the video's name with .segments.png, in the working folder."""
    json: bool = False
    """Print one line of JSON per segment."""
    device: str | None = None
    """Device that runs the model, such as cpu or cuda:1. Default: the GPU if there is one."""

    def run(self) -> int:
        from ..features.inputs import feature_name
        from ..models import list_models
        from ..search import draw_segments, segment
        from ..search.segments import KERNEL, THRESHOLD
        from ..video.sources import path_or_url
        from ..weights import list_weights, load_memory_bank

        model = _encoder(self.model, self.weights).to(self.device or default_device())
        found = segment(
            self.video,
            model,
            window=self.window,
            stride=self.stride,
            kernel=KERNEL if self.kernel is None else self.kernel,
            threshold=THRESHOLD if self.threshold is None else self.threshold,
        )
        strengths = [0.0, *found.strengths.tolist()]
        rows = [(start, end, strength) for (start, end), strength in zip(found.segments, strengths, strict=True)]
        if self.json:
            for start, end, strength in rows:
                print(json.dumps({"start": round(start, 3), "end": round(end, 3), "novelty": round(strength, 4)}))
        else:
            shown = [[_s(start), _s(end), f"{strength:.2f}" if start else ""] for start, end, strength in rows]
            print(format_table(["start, s", "end, s", "novelty at its start"], shown))
        out = self.out or Path(f"{Path(feature_name(path_or_url(self.video))).name}.segments.png")
        published = self.weights is None and self.model in {*list_models(), *list_weights()}
        bank = load_memory_bank(self.model)["memory_bank"].numpy() if published else None
        print(f"wrote {draw_segments(found, out, bank)}", file=sys.stderr)
        return 0


def _moment(word: str) -> tuple[str, float | None]:
    """Splits "VIDEO@12.5" into the video and the seconds; a word without a number after @, or that is a file, is a video."""
    if Path(word).exists():
        return word, None
    path, sign, seconds = word.rpartition("@")
    try:
        return (path, float(seconds)) if sign and path else (word, None)
    except ValueError:
        return word, None


def _encoder(name: str, weights: Path | None) -> Any:
    from ..encoders import load_encoder

    return load_encoder(name, weights)


def _percentile(found: float | None) -> str:
    from ..search.likeness import percentile_in_words

    return "" if found is None else percentile_in_words(found)


def _s(seconds: float) -> str:
    return f"{seconds:.2f}"
