"""The settings of a training run, with their checks. Defaults come from Zhuang et al., CVPR 2020, and the original release.

The named recipes are in recipes.py.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, get_type_hints

from ..clip_spec import Augmentation, Placement
from ..failures import MAX_FAILED, check_max_failed
from ..models import build_model, model_entry

if TYPE_CHECKING:
    from ..models import Encoder


@dataclasses.dataclass(kw_only=True)
class TrainConfig:
    """The settings of a training run: model, videos, objective, optimizer and logging."""

    out: Path
    """Folder of the run. If it holds a stopped run, that run continues."""
    train_list: Path
    """List file of training videos, one per line: `path frames label`, `path label` or `path`.
    Validation and the objectives supervised and readout use the labels."""
    val_list: Path | None = None
    """List file of validation videos, in the same format. Default: no validation."""
    root: Path = Path()
    """Folder that the paths in the lists are relative to."""

    model: str
    """Name of the model to train."""
    width: int | None = None
    """Base width of the model, in channels. Default: the width of the given weights, or the model's registered width."""
    crop: int | None = None
    """Side of the clips to train on, in pixels. Default: the model's own. Small clips train faster: begin with them, then go on
    from those weights with the model's own size."""
    weights: Path | None = None
    """Weights to start from. Default: random weights.
    Give the name of a published weight set, a weight folder, .safetensors file, PyTorch state_dict or TensorFlow checkpoint."""
    resume: Path | None = None
    """Run to continue from. It must have the same training list. Restores weights, momentum, memory bank, clusters and step.
    Give the run's folder, one of its checkpoints (RUN/checkpoints/step-...) or a TensorFlow checkpoint of the original."""

    objective: Literal["vie", "supervised", "readout", "rotation", "order"] = "vie"
    """Training objective.
    vie: instance recognition, then local aggregation.
    supervised: cross-entropy with the labels.
    readout: the same for linear readouts of the frozen encoder's layers.
    rotation: predict how a clip was turned (3DRotNet).
    order: predict the order of frames (OPN)."""
    layers: tuple[str, ...] = ()
    """Readout: names of the layers to read out. "a+b" joins two layers. Default: encode_6, encode_8 and encode_10."""
    ir_steps: int = 50_000
    """Number of instance recognition (IR) steps before local aggregation (LA) starts."""
    noise: int = 4096
    """IR: number of noise rows drawn for each clip. They estimate the softmax over all rows; 0 computes it exactly.
    Use 0 for a small memory bank, where noise rows hide the signal of a clip's own row."""
    background: int = 512
    """LA: number of background neighbors of each clip, its nearest rows of the memory bank (the paper's k)."""
    clusters: int = 8000
    """LA: number of clusters in each clustering, at most the number of videos. A sixth of them suits a short list."""
    clusterings: int = 1
    """LA: number of clusterings. Close neighbors share a cluster in at least one of them."""
    kmeans_iterations: int = 20
    """LA: maximum number of k-means iterations in each clustering."""
    temperature: float = 0.07
    """Temperature of the probabilities in the loss and of the kNN votes in validation."""
    bank_momentum: float = 0.5
    """Weight of a memory bank row's old value when the row is updated, from 0 to 1."""
    bank_start: Literal["random", "embeddings"] = "random"
    """What the memory bank begins with.
    random: random unit vectors, as in the paper.
    embeddings: the embeddings of one pass over the videos, before the first step."""

    part: float = 1.0
    """Fraction of the training list to use, above 0 and at most 1. The videos are drawn at random."""
    binned: bool = False
    """Cut each video into stretches of at most 130 frames, each an instance of its own. The list must give frame counts."""
    augmentation: Augmentation = "color_jitter"
    """Augmentation of training clips, after their frames are chosen."""

    augment: Literal["workers", "device"] = "workers"
    """Where colors are changed: by the workers, or on the device that trains, which then gets clips as uint8."""

    batch_size: int = 64
    """Number of clips per step, summed over all processes. With `epochs`, at most one for each video: the rate is then smaller
    in proportion."""
    steps: int = 0
    """Number of training steps. Give either `steps` or `epochs`."""
    epochs: float | None = None
    """Number of passes over the training list, instead of `steps`."""
    lr: float = 0.03
    """Initial learning rate."""
    head_rate: float = 1.0
    """The head, which may be new, learns at this times the rate."""
    schedule: Literal["boundaries", "cosine"] = "boundaries"
    """Learning rate schedule.
    boundaries: the rate drops to a tenth after each of `lr_boundaries`.
    cosine: the rate falls along half a cosine, to zero at the end."""
    lr_boundaries: tuple[int, ...] = ()
    """Steps after which the learning rate drops to a tenth, in ascending order."""
    warmup_steps: int = 0
    """Number of first steps in which the learning rate rises in a straight line to that of the schedule."""
    momentum: float = 0.9
    """Momentum of SGD."""
    weight_decay: float = 1e-4
    """L2 weight decay of all parameters except those of batch norms."""
    norm_momentum: float = 0.003
    """Weight of the newest batch in the running statistics of batch norms, which validation uses.
    With the original's small weight, the statistics lag by hundreds of steps, so a short run needs a larger one."""
    seed: int = 0
    """Seed for initial weights, memory bank, data order, clips, crops and noise."""

    device: Literal["cpu", "cuda"] | None = None
    """Device to train on. Default: cuda if there is a GPU, or else cpu."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Precision of the encoder's arithmetic. Weights, memory bank and losses stay float32.
    auto: that of the stopped run that continues; otherwise bfloat16 on GPUs that have it, and float32 elsewhere.
    On recent GPUs, float32 convolutions use TF32, which is less exact, unless torch.backends.cudnn.allow_tf32 is False."""
    channels_last: bool = False
    """Store clips and activations with channels last in memory. On a GPU, a run always does."""
    compile: bool = False
    """Compile the encoder with torch.compile; small ones, on one GPU and with accumulate=1, into CUDA graphs."""
    accumulate: int = 1
    """Number of parts that each process's batch is split into.
    The parts go through the encoder one after another, which saves memory. Batch norms see one part at a time."""
    grad_checkpointing: bool = False
    """Recompute activations in the backward pass. This saves memory and takes about a third more time."""
    workers: int = dataclasses.field(default_factory=lambda: min(os.cpu_count() or 1, 8))
    """Number of worker processes that read videos, per training process. 0: the training process reads them itself."""
    max_failed: float = MAX_FAILED
    """Largest share of the videos that may be unreadable, from 0 to 1, of each list. With more, the run ends with an error."""

    validate_every: int = 5000
    """Number of steps between validations, or 0 for an epoch. The run also validates at the end."""
    val_clips: int = 5
    """Number of clips per video in validation."""
    val_placement: Placement = "even"
    """Where they lie. even: evenly spaced from the start of the video to its end. paper: as in the paper's evaluation."""
    neighbors: int = 10
    """Number of memory bank rows that vote for each clip in validation."""
    save_every: int = 5000
    """Number of steps between checkpoints, or 0 for an epoch. The run also saves one at the end."""
    keep: int = 3
    """Number of checkpoints to keep, the newest ones."""
    log_every: int = 50
    """Number of steps between lines of metrics.jsonl, or 0 for an epoch."""

    def __post_init__(self) -> None:
        model_entry(self.model)
        for name, minimum in _MINIMA.items():
            if getattr(self, name) < minimum:
                raise ValueError(f"{name} must be >= {minimum}, got {getattr(self, name)}")
        if (self.epochs is None) != (self.steps > 0):
            raise ValueError(
                f"give either steps or epochs, got steps={self.steps} and epochs={self.epochs}; to turn one off, set steps=0 "
                "or epochs=None"
            )
        if self.epochs is not None and not 0 < self.epochs < math.inf:
            raise ValueError(f"epochs must be finite and more than 0, got {self.epochs}")
        for name, (low, high) in _RANGES.items():
            if not low <= getattr(self, name) <= high or not math.isfinite(getattr(self, name)):
                raise ValueError(f"{name} must be from {low:g} to {high:g}, got {getattr(self, name)}")
        check_max_failed(self.max_failed)
        for name, choices in _choices().items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} must be one of {', '.join(choices)}, got {getattr(self, name)!r}")
        if self.crop is not None and self.crop < 32:
            raise ValueError(f"crop must be at least 32 pixels, got {self.crop}")
        if not 0 < self.part <= 1:
            raise ValueError(f"part must be in (0, 1], got {self.part}")
        if list(self.lr_boundaries) != sorted(set(self.lr_boundaries)):
            raise ValueError(f"lr_boundaries must be in ascending order without repeats, got {self.lr_boundaries}")
        if self.batch_size % self.accumulate:
            raise ValueError(f"batch_size must be a multiple of accumulate ({self.accumulate}), got {self.batch_size}")
        if self.weights and self.resume:
            raise ValueError("give weights (an encoder to start from) or resume (a run to continue), not both")
        if self.objective == "vie" and model_entry(self.model).two_pathway:
            raise ValueError(
                f"{self.model} has no embedding of its own to train. Train its two pathways and join them with "
                "vie_models.two_pathway, or use objective='supervised'"
            )

    def build(self, num_classes: int | None = None) -> Encoder:
        """Returns the untrained encoder."""
        from ..models.blocks import NormAct  # imports torch, which `vie train --help` must not wait for

        spec = model_entry(self.model).clip_spec
        if self.crop is not None:
            spec = dataclasses.replace(spec, crop=self.crop, resize=round(spec.short_side * self.crop / spec.crop))
        model = build_model(self.model, clip_spec=spec, num_classes=num_classes, **self.sizes)
        for module in model.modules():
            if isinstance(module, NormAct):
                module.momentum = self.norm_momentum
        return model

    @property
    def sizes(self) -> dict[str, Any]:
        """Keyword arguments that give a model builder the encoder's size."""
        return {} if self.width is None else {"width": self.width}

    def of_videos(self, number: int) -> TrainConfig:
        """Returns the settings with epochs converted to steps, for a list of `number` videos.

        With `epochs`, a batch is at most as large as the list, and `lr` is lowered in proportion (Goyal et al., 2017).
        """
        batch, steps, lr = self.batch_size, self.steps, self.lr
        if self.epochs is not None:
            batch = min(batch, max(number // self.accumulate, 1) * self.accumulate)
            lr = lr * batch / self.batch_size
            steps = max(round(self.epochs * max(number // batch, 1)), 1)
        every: dict[str, Any] = {
            name: getattr(self, name) or max(number // batch, 1) for name in ("validate_every", "save_every", "log_every")
        }
        return dataclasses.replace(self, epochs=None, batch_size=batch, lr=lr, steps=steps, **every)

    def lr_at(self, step: int) -> float:
        """Returns the learning rate of a step. Steps count from 0."""
        lr = self.lr * min((step + 1) / max(self.warmup_steps, 1), 1)
        if self.schedule == "cosine":
            return lr * (1 + math.cos(math.pi * step / self.steps)) / 2
        return lr * 0.1 ** sum(step > boundary for boundary in self.lr_boundaries)

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as JSON-ready values."""
        values = dataclasses.asdict(self)
        return {k: str(v) if isinstance(v, Path) else list(v) if isinstance(v, tuple) else v for k, v in values.items()}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> TrainConfig:
        """Returns the settings that `to_dict` wrote. Raises ValueError for an unknown field."""
        known = {field.name for field in dataclasses.fields(cls)}
        fields = {name: value for name, value in fields.items() if name != "max_failures"}  # of 0.1.0; `max_failed` now
        if unknown := sorted(set(fields) - known):
            raise ValueError(f"unknown setting(s) {', '.join(unknown)}; choose from {', '.join(sorted(known))}")
        values = dict(fields)
        for name in ("out", "train_list", "val_list", "root", "weights", "resume"):
            if values.get(name) is not None:
                values[name] = Path(values[name])
        for name in ("lr_boundaries", "layers"):
            values[name] = tuple(values.get(name, ()))
        return cls(**values)


FIXED = (
    *("model", "width", "crop", "objective", "layers", "ir_steps", "noise", "background", "clusters", "clusterings"),
    *("kmeans_iterations", "temperature", "bank_momentum", "bank_start", "part", "binned", "augmentation", "batch_size"),
    *("lr", "head_rate", "schedule", "lr_boundaries", "warmup_steps", "momentum", "weight_decay", "norm_momentum"),
    *("seed", "dtype"),
)
"""Settings that cannot change when a run continues. The others can."""


@functools.cache
def _choices() -> dict[str, tuple[str, ...]]:
    """The choices of each setting that has some and must be one of them."""
    hints = get_type_hints(TrainConfig)
    names = ("objective", "bank_start", "augmentation", "augment", "schedule", "val_placement", "dtype")
    return {name: get_args(hints[name]) for name in names}


_MINIMA = {
    **dict.fromkeys(("background", "clusters"), 2),  # with one, every neighbor is close, and there is nothing to learn
    **dict.fromkeys(("clusterings", "kmeans_iterations", "batch_size"), 1),
    **dict.fromkeys("accumulate val_clips neighbors keep".split(), 1),  # noqa: SIM905
    **dict.fromkeys(("steps", "warmup_steps", "ir_steps", "noise", "workers", "seed"), 0),
    **dict.fromkeys(("validate_every", "save_every", "log_every"), 0),
}
_RANGES = {
    "lr": (0.0, math.inf),
    "head_rate": (0.0, math.inf),
    "momentum": (0.0, 1.0),
    "weight_decay": (0.0, math.inf),
    "temperature": (0.002, math.inf),
    "bank_momentum": (0.0, 1.0),
    "norm_momentum": (0.0, 1.0),
}
