"""What a training run is: every setting, checked; and the named recipes, one for each row of the paper.

Source of the numbers: Zhuang et al., CVPR 2020, and the original release. The `_tiny` ones are ours.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

from ..models import Encoder, build_model, model_entry
from ..models.blocks import NormAct
from ..video.transforms import Recipe as Augmentation


@dataclasses.dataclass(kw_only=True)
class TrainConfig:
    """A training run: a model, its videos, an objective and how it is optimised."""

    out: Path
    """Folder of the run. Where it holds one that was stopped, that one goes on."""
    train_list: Path
    """List file of training videos: a line `path frames label`, `path label` or `path` each. Labels are for validation."""
    val_list: Path | None = None
    """List file of videos whose labels validation predicts. Default: no validation."""
    root: Path = Path()
    """What the paths in the lists are relative to."""

    model: str
    """The model that is trained."""
    width: int | None = None
    """Its base width, where that is not the registered one."""
    weights: Path | None = None
    """Encoder to begin with: a published set's name, or a weight folder, .safetensors file, PyTorch state_dict or TensorFlow
    checkpoint. Its width is then the default."""
    resume: Path | None = None
    """Run, checkpoint of a run (RUN/checkpoints/step-...) or TensorFlow checkpoint, of the same list, to go on from: weights,
    momentum, memory bank, clusters and step."""

    objective: Literal["vie", "supervised", "readout", "rotation", "order"] = "vie"
    """vie: instance recognition, then local aggregation; supervised: cross-entropy of the labels; readout: the same, of linear
    readouts of the frozen encoder's layers; rotation: how a clip was turned (3DRotNet); order: how frames come (OPN)."""
    layers: tuple[str, ...] = ()
    """Readouts: which layers; "a+b" reads two together. Default: encode_6, encode_8 and encode_10."""
    ir_steps: int = 50_000
    """Steps of instance recognition before local aggregation."""
    noise: int = 4096
    """IR: noise rows drawn for each clip. 0: the softmax over all rows, which they estimate, and which a bank of few rows
    needs: there the noise outweighs what tells a clip's own row from it."""
    background: int = 512
    """LA: how many of the nearest rows are each clip's background neighbours (the paper's k)."""
    clusters: int = 8000
    """LA: clusters of each clustering."""
    clusterings: int = 1
    """LA: clusterings; neighbours share a cluster in any of them."""
    kmeans_iterations: int = 20
    """LA: iterations of each clustering."""
    temperature: float = 0.07
    """Of the probabilities, and of the votes in validation."""
    bank_momentum: float = 0.5
    """Weight of a bank row's old value when it is updated."""

    part: float = 1.0
    """Share of the videos of the list that is used, drawn at random."""
    binned: bool = False
    """Make every stretch of at most 130 frames an instance of its own; the list must have lengths."""
    augmentation: Augmentation = "color_jitter"
    """What happens to training clips beside the choice of their frames."""

    batch_size: int = 64
    """Clips a step, over all processes."""
    steps: int = 0
    """When the run ends."""
    epochs: float | None = None
    """When the run ends, in passes over the list, instead of `steps`."""
    lr: float = 0.03
    """Learning rate to begin with."""
    schedule: Literal["boundaries", "cosine"] = "boundaries"
    """How the learning rate falls: to a tenth after each boundary, or along half a cosine to zero at the end."""
    lr_boundaries: tuple[int, ...] = ()
    """Last steps of each learning rate but the last."""
    momentum: float = 0.9
    """Of SGD."""
    weight_decay: float = 1e-4
    """L2, of everything but batch norms."""
    norm_momentum: float = 0.003
    """Weight of the newest batch in the running statistics of batch norms, which validation uses. The original's is small: its
    statistics lag by hundreds of steps, too many for a short run."""
    seed: int = 0
    """Of initial weights, bank, order, clips and noise."""

    device: Literal["cpu", "cuda"] | None = None
    """Where the model is trained. Default: CUDA where there is a GPU."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Precision of the encoder's arithmetic; weights, memory bank and losses are float32. On recent GPUs PyTorch takes TF32 for
    convolutions in float32, which is less exact, unless torch.backends.cudnn.allow_tf32 is False."""
    channels_last: bool = False
    """Keep clips and activations with the channels last in memory."""
    compile: bool = False
    """Run the encoder through torch.compile."""
    accumulate: int = 1
    """Parts that each process's batch is put through the encoder in; batch norms see one part."""
    grad_checkpointing: bool = False
    """Compute activations again in the backward pass: less memory, about a third more time."""
    sync_norms: bool = False
    """Take the statistics of batch norms over all processes; the original takes them over each GPU's clips."""
    workers: int = 8
    """Processes that read videos, for each training process; 0: it reads them itself."""
    max_failures: int = 100
    """How many videos may turn out to be unreadable before the run stops and lists them."""

    validate_every: int = 5000
    """Steps from one validation to the next."""
    val_clips: int = 5
    """Clips a video in validation."""
    neighbours: int = 10
    """Bank rows that vote for each of them."""
    save_every: int = 5000
    """Steps from one checkpoint to the next; there is one at the end as well."""
    keep: int = 3
    """Checkpoints that are kept, the last ones."""
    log_every: int = 50
    """Steps from one line of metrics.jsonl to the next."""

    def __post_init__(self) -> None:
        model_entry(self.model)
        for name, least in _LEAST.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be >= {least}, got {getattr(self, name)}")
        if (self.epochs is None) != (self.steps > 0):
            raise ValueError(
                f"give either steps or epochs, got steps={self.steps} and epochs={self.epochs}; the one that is not meant is "
                "switched off by steps=0 or epochs=None"
            )
        if self.epochs is not None and not 0 < self.epochs < math.inf:
            raise ValueError(f"epochs must be more than 0, got {self.epochs}")
        for name, (low, high) in _RANGES.items():
            if not low <= getattr(self, name) <= high or not math.isfinite(getattr(self, name)):
                raise ValueError(f"{name} must be from {low:g} to {high:g}, got {getattr(self, name)}")
        for name in ("objective", "augmentation", "schedule", "dtype"):
            choices = get_args(get_type_hints(TrainConfig)[name])
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} must be one of {', '.join(choices)}, got {getattr(self, name)!r}")
        if not 0 < self.part <= 1:
            raise ValueError(f"part must be in (0, 1], got {self.part}")
        if list(self.lr_boundaries) != sorted(set(self.lr_boundaries)):
            raise ValueError(f"lr_boundaries must grow, got {self.lr_boundaries}")
        if self.batch_size % self.accumulate:
            raise ValueError(f"batch_size must be a multiple of accumulate ({self.accumulate}), got {self.batch_size}")
        if self.weights and self.resume:
            raise ValueError("give weights (an encoder to begin with) or resume (a run to go on with), not both")
        if self.compile and self.sync_norms and self.grad_checkpointing:
            raise ValueError("compile, sync_norms and grad_checkpointing do not go together: compiling does not end")
        if self.objective == "vie" and "twopathway" in self.model:
            raise ValueError(
                f"{self.model} has no embedding of its own to be trained: train its two pathways, and put them together with "
                "vie_models.two_pathway; or use objective='supervised'"
            )

    def build(self, num_classes: int | None = None) -> Encoder:
        """The encoder, untrained."""
        model = build_model(self.model, num_classes=num_classes, **self.sizes)
        for module in model.modules():
            if isinstance(module, NormAct):
                module.momentum = self.norm_momentum
        return model

    @property
    def sizes(self) -> dict[str, Any]:
        """What a builder is told of the encoder's size."""
        return {} if self.width is None else {"width": self.width}

    def of_videos(self, number: int) -> TrainConfig:
        """The same with `steps`, for a list of so many videos, instead of `epochs`."""
        if self.epochs is None:
            return self
        per_epoch = max(number // self.batch_size, 1)
        return dataclasses.replace(self, epochs=None, steps=max(round(self.epochs * per_epoch), 1))

    def lr_at(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        if self.schedule == "cosine":
            return self.lr * (1 + math.cos(math.pi * step / self.steps)) / 2
        return self.lr * 0.1 ** sum(step > boundary for boundary in self.lr_boundaries)

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON-ready values."""
        values = dataclasses.asdict(self)
        return {k: str(v) if isinstance(v, Path) else list(v) if isinstance(v, tuple) else v for k, v in values.items()}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> TrainConfig:
        """The inverse of `to_dict`; an unknown field raises ValueError."""
        known = {field.name for field in dataclasses.fields(cls)}
        if unknown := sorted(set(fields) - known):
            raise ValueError(f"unknown setting(s) {', '.join(unknown)}; a run has {', '.join(sorted(known))}")
        values = dict(fields)
        for name in ("out", "train_list", "val_list", "root", "weights", "resume"):
            if values.get(name) is not None:
                values[name] = Path(values[name])
        for name in ("lr_boundaries", "layers"):
            values[name] = tuple(values.get(name, ()))
        return cls(**values)


FIXED = (
    *("model", "width", "objective", "layers", "ir_steps", "noise", "background", "clusters", "clusterings"),
    *("kmeans_iterations", "temperature", "bank_momentum", "part", "binned", "augmentation", "batch_size", "lr", "schedule"),
    *("lr_boundaries", "momentum", "weight_decay", "norm_momentum", "seed", "dtype", "sync_norms"),
)
"""Settings that a run keeps to its end; the others may change when it goes on."""

_LEAST = {
    **dict.fromkeys("background clusters clusterings kmeans_iterations batch_size".split(), 1),  # noqa: SIM905
    **dict.fromkeys("accumulate validate_every val_clips neighbours save_every keep log_every".split(), 1),  # noqa: SIM905
    **dict.fromkeys(("steps", "ir_steps", "noise", "workers", "max_failures", "seed"), 0),
}
_RANGES = {
    "lr": (0.0, math.inf),
    "momentum": (0.0, 1.0),
    "weight_decay": (0.0, math.inf),
    "temperature": (0.002, math.inf),
    "bank_momentum": (0.0, 1.0),
    "norm_momentum": (0.0, 1.0),
}
