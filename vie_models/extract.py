"""Features of many videos, each in its own file, with a manifest in which every video appears."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .models import Encoder
from .video.clips import test_clips
from .video.decode import VideoError, count_grid, read_clips
from .video.transforms import clip_transform
from .weights.folder import replacing

MANIFEST = "manifest.jsonl"
VIDEO_SUFFIXES = frozenset(  # of containers; a file with another is tried where it is named itself
    ".3gp .asf .avi .flv .m2ts .m4v .mkv .mov .mp4 .mpeg .mpg .mts .mxf .ogv .ts .vob .webm .wmv .y4m".split()  # noqa: SIM905
)


@dataclasses.dataclass
class VideoRecord:
    """One line of the manifest."""

    path: str
    status: str
    """"ok"; "damaged": features of what could be read; "failed": none; "skipped": not a video by its name."""
    reason: str | None = None
    features: str | None = None
    """The .npz, relative to the output folder."""
    clips: int = 0
    looped: int = 0
    """Clips that ran over the end of the video and began again."""
    duration: float | None = None
    """Seconds, to the end of the last frame that could be read."""


class Extractor:
    """Runs an encoder over videos.

    Args:
        model: the encoder; it is put in evaluation mode and stays where it is.
        layers: layer names whose maps, averaged over space and time, are written beside the embedding.
        clips: clips a video, evenly placed.
    """

    def __init__(self, model: Encoder, *, layers: Sequence[str] = (), clips: int = 5) -> None:
        if clips < 1:
            raise ValueError(f"clips must be >= 1, got {clips}")
        if unknown := sorted(set(layers) - set(model.layer_names)):
            raise ValueError(f"{model.model_name} has no layer {', '.join(unknown)}; it has {', '.join(model.layer_names)}")
        self.model, self.layers, self.clips = model.eval(), list(layers), clips
        self._transform = clip_transform(model)

    def extract(self, paths: Iterable[str | os.PathLike[str]], out_dir: str | os.PathLike[str]) -> list[VideoRecord]:
        """Writes `<name>.npz` for every video that can be read, and adds to the manifest; returns the new records.

        `paths` are video files, tried whatever their name, and folders, searched for files with a video's suffix. A file's
        features go to OUT/<file name>.npz, those of a file in a folder to OUT/<path in that folder>.npz.

        Where a video stands in the manifest more than once, the last line counts.
        Each .npz holds `embedding` [clips, D], one array [clips, C] a layer, and `start` and `end` of the clips in seconds.
        """
        out_dir = Path(out_dir)
        jobs = list(_jobs(paths))
        targets = [target for _, target in jobs if target]
        if twice := sorted({t for t in targets if targets.count(t) > 1}):
            raise ValueError(f"two videos would be written to {twice[0]}.npz; extract from their common folder instead")
        out_dir.mkdir(parents=True, exist_ok=True)
        records = []
        with (out_dir / MANIFEST).open("a") as manifest:
            for path, target in jobs:
                record = self._one(path, target, out_dir)
                records.append(record)
                manifest.write(json.dumps(dataclasses.asdict(record)) + "\n")
                manifest.flush()
        return records

    def _one(self, path: Path, target: str | None, out_dir: Path) -> VideoRecord:
        if target is None:
            return VideoRecord(str(path), "skipped", "not a video by its name; name the file itself to try it")
        try:
            arrays, record = self._features(path)
        except VideoError as error:
            return VideoRecord(str(path), "failed", error.reason)
        except OSError as error:
            return VideoRecord(str(path), "failed", f"cannot be read: {error.strerror or error}")
        record.features = f"{target}.npz"
        file = out_dir / record.features
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file) as temporary, temporary.open("wb") as handle:
            np.savez(handle, **arrays)  # type: ignore[arg-type]
        return record

    def _features(self, path: Path) -> tuple[dict[str, np.ndarray], VideoRecord]:
        spec = self.model.clip_spec
        counted = count_grid(path, spec.fps)
        assert counted.num_frames is not None
        clips = test_clips(counted.num_frames, spec, self.clips)
        outputs: dict[str, list[Any]] = {name: [] for name in ["output", *self.layers]}
        device = next(self.model.parameters()).device
        for frames in read_clips(path, spec.fps, [clip.indices for clip in clips]):
            x = self._transform(frames)[None].to(device)
            with torch.inference_mode():
                maps = self.model.forward_intermediates(x, outputs)
            for name, value in maps.items():
                outputs[name].append((value if value.ndim == 2 else value.mean((2, 3, 4)))[0].float().cpu().numpy())
        arrays = {"embedding" if name == "output" else name: np.stack(values) for name, values in outputs.items()}
        arrays["start"] = np.array([clip.start for clip in clips]) / spec.fps
        arrays["end"] = arrays["start"] + spec.seconds
        status = "damaged" if counted.damage else "ok"
        looped = sum(clip.looped for clip in clips)
        record = VideoRecord(
            str(path), status, counted.damage, clips=len(clips), looped=looped, duration=counted.num_frames / spec.fps
        )
        return arrays, record


def _jobs(paths: Iterable[str | os.PathLike[str]]) -> Iterator[tuple[Path, str | None]]:
    """(file, name of its features without .npz); None for a file in a folder that is no video by its name."""
    for path in map(Path, paths):
        if not path.is_dir():
            yield path, path.name
            continue
        for file in sorted(path.rglob("*")):
            if file.is_file() and not any(part.startswith(".") for part in file.relative_to(path).parts):
                is_video = file.suffix.lower() in VIDEO_SUFFIXES
                yield file, file.relative_to(path).as_posix() if is_video else None
