"""The settings of an evaluation. Free of torch: the command line reads them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

from ..clip_spec import Placement
from ..failures import MAX_FAILED, check_max_failed


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The settings of an evaluation: model, weights, videos and protocol."""

    model: str
    """Name of the model to evaluate: of VIE, or "timm:NAME", "torchvision:NAME", "hf:NAME" (see docs/compare.md)."""
    weights: Path | None = None
    """Weights of a VIE model. Default: an untrained encoder, for comparison.
    Give the name of a published weight set, a weight folder, .safetensors file, PyTorch state_dict or TensorFlow checkpoint."""
    seed: int = 0
    """Seed for the weights of an untrained encoder."""
    layer: str | None = None
    """Layer whose features are read, averaged over space and time; `vie info MODEL` lists them.
    Default: the model's output for kNN, and what its own head reads for logistic regression."""
    train_list: Path | None = None
    """List file of labeled training videos, one per line: `path frames label` or `path label`."""
    bank: bool = False
    """kNN: use the memory bank that came with the weights instead of a training list."""
    val_list: Path
    """List file of labeled test videos to classify, in the same format."""
    root: Path = Path()
    """Folder that the paths in the lists are relative to."""
    out: Path
    """Folder for results.json and the confusion matrix."""
    clips: int = 5
    """Number of clips per video."""
    placement: Placement = "even"
    """Where the clips lie. even: evenly spaced from the start of the video to its end. paper: as in the paper's evaluation."""
    neighbors: int = 10
    """kNN: number of rows that vote for each clip."""
    temperature: float = 0.07
    """kNN: temperature of the votes."""
    workers: int = 4
    """Number of processes that read videos."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Precision of the encoder's arithmetic."""
    device: Literal["cpu", "cuda"] | None = None
    """Device to evaluate on. Default: cuda if there is a GPU, or else cpu."""
    max_failed: float = MAX_FAILED
    """Largest share of the videos of each list that may be unreadable, from 0 to 1. With more, there is no result."""

    def __post_init__(self) -> None:
        check_max_failed(self.max_failed)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Probing(Evaluation):
    """The settings of a probe."""

    group_regex: str | None = None
    r"""Regular expression that finds in a training video's path, from ROOT, the recording or person that it belongs to, as in
    `vie data folder`. Cross-validation holds out whole groups. Default: '_g\d+_', if all names have it, or else no groups."""
    precision: float = 0.8
    """Share of the names that should be right, from 0 to 1: a name needs the lowest confidence for which they are, among
    training videos that were held out."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.precision <= 1:
            raise ValueError(f"precision must be a share of the names, from 0 to 1, got {self.precision}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """The settings of a comparison of encoders: models, layers and videos."""

    encoders: tuple[str, ...]
    """Names of models: of VIE, "timm:NAME", "torchvision:NAME", "hf:NAME", "FILE.pt2", or "pixels" (see docs/compare.md)."""
    layers: tuple[str, ...] = ()
    """Layers to evaluate besides each model's output, averaged over space and time. Each model takes those that it has."""
    train_list: Path
    """List file of labeled training videos, one per line: `path frames label` or `path label`."""
    val_list: Path
    """List file of labeled test videos, in the same format."""
    root: Path = Path()
    """Folder that the paths in the lists are relative to."""
    out: Path
    """Folder for the table (report.md), its picture, and a folder of results for each model, layer and protocol."""
    clips: int = 5
    """Number of clips per video."""
    workers: int = 4
    """Number of processes that read videos."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Precision of the encoders' arithmetic."""
    device: Literal["cpu", "cuda"] | None = None
    """Device to evaluate on. Default: cuda if there is a GPU, or else cpu."""
    max_failed: float = MAX_FAILED
    """Largest share of the videos of each list that may be unreadable, from 0 to 1. With more, there is no result."""
