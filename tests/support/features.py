"""Writes folders of features without videos."""

from pathlib import Path

import numpy as np

from vie_models.features.folder import FeatureFolder, VideoRecord

SETTINGS = {"model": "vie_twopathway_tiny", "weights": "x", "clips": None, "window": None, "stride": 1.0}


def write_features(
    folder: Path, videos: list[str], clips: int = 7, dim: int = 32, arrays: dict[str, np.ndarray] | None = None
) -> Path:
    """Writes features of videos: a clip of 2 s each second. Without `arrays`, they depend on the name alone."""
    with FeatureFolder(folder, SETTINGS) as out:
        for name in videos:
            values = {"embedding": np.random.default_rng(list(name.encode())).normal(size=(clips, dim)).astype(np.float32) * 3}
            values |= arrays or {}
            times = np.arange(len(values["embedding"]), dtype=float)
            values |= {"start": times, "end": times + 2, "looped": times < 0}
            record = VideoRecord(name, name, "ok", clips=len(times), size=len(name), fingerprint=name, settings=dict(SETTINGS))
            out.write(record, values)
    return folder


def names(first: int, last: int) -> list[str]:
    return [f"v{i:03d}.mp4" for i in range(first, last)]
