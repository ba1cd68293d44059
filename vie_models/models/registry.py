"""The registered models: the builder and the clips of each name. Sizes are arguments; vie_models.weights loads weights.

Listing names does not import torch. Building an encoder imports its module.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import importlib
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..clip_spec import ClipSpec
from ..names import unknown_name

if TYPE_CHECKING:
    from .encoder import Encoder

SINGLE = ClipSpec(num_frames=1, placement="segments")
TRN = ClipSpec(num_frames=4, frame_interval=12, placement="bins")
RESNET3D = ClipSpec(num_frames=16, frame_interval=1, resize=128, crop=112)
SLOW = ClipSpec(num_frames=4, frame_interval=16, placement="inner")
FAST = ClipSpec(num_frames=16, frame_interval=4)


@dataclasses.dataclass(frozen=True)
class ModelEntry:
    """One registered model."""

    builder: str
    """Module in vie_models.models and name of the builder, such as "resnet.VIESingle"."""
    clip_spec: ClipSpec
    """Clips that the model takes."""
    reference: str
    """Name of the model in the original release, or "" if it has none."""
    summary: str
    """One-line description for listings."""
    two_pathway: bool = False
    """Whether the model joins a static and a dynamic pathway: the halves of its embedding, in this order."""
    sizes: dict[str, int] = dataclasses.field(default_factory=dict)
    """Sizes that differ from the builder's defaults."""

    @property
    def build(self) -> Callable[..., Encoder]:
        """The builder: `build(clip_spec, num_classes=..., **sizes)` returns an untrained encoder."""
        module, name = self.builder.split(".")
        return getattr(importlib.import_module(f".{module}", __package__), name)

    @property
    def parameters(self) -> dict[str, Any]:
        """The sizes that `build` takes, with their defaults."""
        build: Any = self.build
        if inspect.isclass(build):
            build = build.__init__  # on Python 3.10, a class shows the signature of its mixin
        parameters = inspect.signature(build).parameters.values()
        defaults = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY and p.name != "num_classes"}
        return {**defaults, **self.sizes}


def _smaller(entry: ModelEntry, resize: int, crop: int, **sizes: int) -> ModelEntry:
    """Returns the same model with other sizes."""
    spec = dataclasses.replace(entry.clip_spec, resize=resize, crop=crop)
    summary = f"{entry.summary}; base width {sizes['width']}, {crop}-pixel crop"
    return dataclasses.replace(entry, clip_spec=spec, reference="", summary=summary, sizes=sizes)


MODELS: dict[str, ModelEntry] = {
    "vie_single": ModelEntry("resnet.VIESingle", SINGLE, "single_frame", "2-D ResNet-18 on single frames"),
    "vie_trn": ModelEntry("resnet.VIETRN", TRN, "tsrn", "2-D ResNet-18 on 4 frames in order (temporal relation network)"),
    "vie_3dresnet": ModelEntry("resnet3d.VIE3DResNet", RESNET3D, "3dresnet", "3-D ResNet-18 on 16 successive frames"),
    "vie_slow": ModelEntry("resnet3d.VIESlow", SLOW, "slow", "slow pathway: 4 frames, 16 apart"),
    "vie_fast": ModelEntry("resnet3d.VIEFast", FAST, "fast_a4", "fast pathway by itself: 16 frames, 4 apart, few channels"),
    "vie_slowfast": ModelEntry("slowfast.VIESlowfast", FAST, "slowfast_a4", "slow and fast pathways with lateral connections"),
    "vie_twopathway_slow": ModelEntry(
        "twopathway.with_slow", SLOW, "slowsingle_avg", "static (Single) and dynamic (Slow) pathways", two_pathway=True
    ),
    "vie_twopathway": ModelEntry(
        "twopathway.with_slowfast",
        FAST,
        "slowfastsingle_avg",
        "static (Single) and dynamic (Slowfast) pathways",
        two_pathway=True,
    ),
}
for _name in ("single", "3dresnet", "slowfast", "twopathway"):
    _fast = _name in ("slowfast", "twopathway")
    _entry = MODELS[f"vie_{_name}"]
    MODELS[f"vie_{_name}_tiny"] = _smaller(_entry, 72, 64, width=16, **({"fast_width": 4} if _fast else {}))
    MODELS[f"vie_{_name}_small"] = _smaller(_entry, 73, 64, width=32, **({"fast_width": 8} if _fast else {}))

NUM_PARAMETERS = {
    "vie_3dresnet": 33_271_872,
    "vie_3dresnet_small": 8_352_864,
    "vie_3dresnet_tiny": 2_105_712,
    "vie_fast": 337_032,
    "vie_single": 11_244_480,
    "vie_single_small": 2_831_904,
    "vie_single_tiny": 718_416,
    "vie_slow": 20_091_840,
    "vie_slowfast": 21_678_280,
    "vie_slowfast_small": 6_041_384,
    "vie_slowfast_tiny": 1_528_772,
    "vie_trn": 11_441_088,
    "vie_twopathway": 32_922_760,
    "vie_twopathway_slow": 31_336_320,
    "vie_twopathway_small": 8_873_288,
    "vie_twopathway_tiny": 2_247_188,
}
"""Number of parameters of each model with its registered sizes, so that a listing needs no torch."""


def list_models(pattern: str = "*") -> list[str]:
    """Returns the registered model names that match a shell-style `pattern`, sorted."""
    return sorted(fnmatch.filter(MODELS, pattern))


def model_entry(name: str) -> ModelEntry:
    """Returns the entry of a registered name. An unknown name raises ValueError, which suggests and lists the known ones."""
    if name not in MODELS:
        raise unknown_name("model", name, list_models())
    return MODELS[name]


def pathway_slices(name: str, size: int) -> dict[str, slice]:
    """Returns the part of an embedding of `size` numbers that belongs to each pathway of a two-pathway model; {} for others."""
    entry = MODELS.get(name)
    if entry is None or not entry.two_pathway:
        return {}
    return {"static": slice(0, size // 2), "dynamic": slice(size // 2, size)}


def build_model(
    name: str,
    *,
    clip_spec: ClipSpec | None = None,
    num_classes: int | None = None,
    global_pool: str = "avg",
    **sizes: Any,
) -> Encoder:
    """Builds an untrained encoder, in training mode. `sizes` are width, fast_width and static_width, in channels.

    `global_pool=""` with `num_classes=0` builds one that returns maps: see `Encoder.reset_classifier`.
    """
    entry = model_entry(name)
    if unknown := sorted(set(sizes) - set(entry.parameters)):
        raise ValueError(f"{name} has no size {', '.join(unknown)}; it has {', '.join(entry.parameters)}")
    model_args = {**entry.parameters, **sizes}
    model = entry.build(clip_spec or entry.clip_spec, num_classes=num_classes, **model_args)
    model.model_name, model.model_args = name, model_args
    if global_pool != "avg":
        model.reset_classifier(num_classes, global_pool)
    return model
