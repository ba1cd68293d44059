"""Registers the encoders with timm when it is imported: `import vie_models.timm`.

Then `timm.create_model("vie_3dresnet")`, `("local-dir:FOLDER")` and `("hf-hub:org/name")` build and load them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import timm.models
from torch.nn import Linear

from .clip_spec import ClipSpec
from .models import Encoder, list_models, model_entry
from .models.pretrained import repository_files, with_classes
from .models.weight_folder import CONFIG, build_from_config, timm_config
from .weights.catalog import CATALOG
from .weights.store import check_sizes, create_model, from_pretrained

__all__: list[str] = []  # timm appends the names of entry points


def _entrypoint(name: str) -> Callable[..., Any]:
    def build(
        pretrained: bool = False,
        pretrained_cfg: Any = None,
        pretrained_cfg_overlay: Any = None,
        cache_dir: Any = None,
        pretrained_model_args: Any = None,
        features_only: bool = False,
        out_indices: Any = None,
        feature_cls: Any = None,
        global_pool: str | None = None,
        device: Any = None,
        dtype: Any = None,
        **kwargs: Any,
    ) -> Any:
        _check_arguments(name, kwargs)
        if out_indices is not None and not features_only:
            raise ValueError(f"out_indices={out_indices!r} goes with features_only=True: give both, or neither")
        overlay = dict(pretrained_cfg_overlay or {})
        if pretrained and overlay.get("file"):
            model = create_model(name, checkpoint_path=overlay["file"], **kwargs)
        else:
            model = _build(name, pretrained, pretrained_cfg, cache_dir, kwargs)
        if global_pool is not None and global_pool != model.global_pool:
            without_head = global_pool == "" and kwargs.get("num_classes") is None
            model.reset_classifier(0 if without_head else model.num_classes, global_pool)
        model.clip_spec = _overlaid(model.clip_spec, overlay)
        cfg = {"architecture": name, **timm_config(model), **_parts(model), **overlay}
        model.to(device=device, dtype=dtype)
        if features_only:
            return _features_only(model, out_indices, feature_cls, cfg)
        model.pretrained_cfg = model.default_cfg = cfg  # type: ignore[assignment]  # timm reads both
        return model

    build.__name__ = build.__qualname__ = name
    return build


FIXED: dict[str, tuple[Any, str]] = {
    "in_chans": (3, "they see RGB; give gray frames three channels: x.expand(-1, 3, -1, -1, -1)"),
    "drop_rate": (0, "they have no dropout; put torch.nn.Dropout before a head of your own (num_classes=0)"),
    "drop_path_rate": (0, "they have no stochastic depth"),
    "output_stride": (32, "their strides are those of the paper; features_only=True gives the maps of earlier stages"),
    "img_size": (None, "they take frames of any size: leave it out, and give such clips"),
    "pruned": (False, "nobody has pruned them"),
}
"""timm's arguments that encoders do not have: the only value that will do, and what to do instead of another."""


def _check_arguments(name: str, kwargs: dict[str, Any]) -> None:
    """Takes arguments with their only possible values out of `kwargs`. Refuses what encoders do not have."""
    for argument, (fixed, instead) in FIXED.items():
        if argument in kwargs and (value := kwargs.pop(argument)) != fixed:
            only = f"be {fixed!r}" if fixed is not None else "be left out"
            raise ValueError(f"{argument}={value!r}: for VIE encoders it must {only}, because {instead}")
    parameters = ("num_classes", "clip_spec", *model_entry(name).parameters)
    if unknown := sorted(set(kwargs) - set(parameters)):
        raise ValueError(
            f"{name} does not take {unknown[0]}={kwargs[unknown[0]]!r}: that is an argument of other timm models. It takes "
            f"{', '.join(parameters)}, global_pool, features_only, out_indices, device and dtype; leave {unknown[0]} out"
        )


def _overlaid(spec: ClipSpec, overlay: dict[str, Any]) -> ClipSpec:
    """Returns `spec` with what timm's caller changes of how frames are prepared."""
    changes = {key: overlay[key] for key in ("mean", "std", "interpolation") if key in overlay}
    crop = overlay["input_size"][-1] if "input_size" in overlay else spec.crop
    resize = round(crop / overlay.get("crop_pct", spec.crop / spec.short_side))
    return dataclasses.replace(spec, crop=crop, resize=resize, **changes)


def _parts(model: Encoder) -> dict[str, Any]:
    """Returns what timm wants to know of a model's modules: the first convolutions, the heads, the size of the last maps."""
    heads = [name for name, module in model.named_modules() if name.endswith("head") and isinstance(module, Linear)]
    first = [name for name, _ in model.named_modules() if name.endswith("stem.conv")]
    one_or_all = [found[0] if len(found) == 1 else tuple(found) for found in (heads or ["head"], first)]
    size = -(-model.clip_spec.crop // 32)
    return {"classifier": one_or_all[0], "first_conv": one_or_all[1], "pool_size": (size, size)}


def _features_only(model: Encoder, out_indices: Any, feature_cls: Any, cfg: dict[str, Any]) -> Any:
    """Returns timm's network of feature maps: `forward` gives a list of [B, C, T', H', W'], described by `feature_info`."""
    if feature_cls not in (None, "getter"):
        raise ValueError(
            f'feature_cls={feature_cls!r}: VIE encoders give maps by forward_intermediates, so it must be "getter"; leave it '
            "out, or get any other node by torchvision's create_feature_extractor"
        )
    from timm.models._features import FeatureGetterNet

    indices = tuple(model.stage_indices(out_indices))  # what is wrong with them is said here, and not by an assertion
    network: Any = FeatureGetterNet(model, out_indices=indices)
    model.reset_classifier(0)
    rest = {key: value for key, value in cfg.items() if key not in ("num_classes", "classifier", "global_pool")}
    network.pretrained_cfg = network.default_cfg = rest
    return network


def _build(name: str, pretrained: bool, cfg: Any, cache_dir: Any, kwargs: dict[str, Any]) -> Encoder:
    if isinstance(cfg, dict) and cfg.get("source") == "local-dir":
        if pretrained:
            return _fitted(from_pretrained(Path(cfg["file"])), kwargs)
        return build_from_config(Path(cfg["file"]) / CONFIG, **kwargs)
    if isinstance(cfg, dict) and cfg.get("source") == "hf-hub":
        repo, _, revision = cfg["hf_hub_id"].partition("@")
        if pretrained:
            return _fitted(from_pretrained(repo, revision=revision or None, cache_dir=cache_dir), kwargs)
        return build_from_config(repository_files(repo, (CONFIG,), revision=revision or None, cache_dir=cache_dir)[0], **kwargs)
    tag = f".{cfg}" if isinstance(cfg, str) and cfg and pretrained else ""
    return create_model(name + tag, pretrained, cache_dir=cache_dir, **kwargs)


def _fitted(model: Encoder, kwargs: dict[str, Any]) -> Encoder:
    """Returns `model` with the head that timm's caller asks for. Other arguments must equal the saved ones."""
    num_classes = kwargs.pop("num_classes", None)
    check_sizes(model, kwargs, "the weight set")
    return with_classes(model, num_classes)


def _register() -> Any:
    """Adds every model to timm's registry, and returns where their weights are."""
    if not hasattr(timm.models, "generate_default_cfgs"):
        raise ImportError(f"timm {timm.__version__} knows no models of other packages: pip install -U 'timm>=1.0'")
    cfgs: dict[str, Any] = {name: {} for name in list_models() if not any(r.model == name for r in CATALOG.values())}
    for name, record in CATALOG.items():  # a set in the package has a file, any other has an address
        where = {"url": record.url} if record.url else {"file": record.name}
        cfgs[name] = {**where, "license": record.license}
    return timm.models.generate_default_cfgs(cfgs)


default_cfgs = _register()  # timm reads it from the module that defines an entry point
for _name in list_models():
    timm.models.register_model(_entrypoint(_name))
