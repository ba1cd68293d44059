"""Registers our models with timm: `timm.create_model("vie_3dresnet")`, `("local-dir:FOLDER")`, `("hf-hub:org/name")`.

timm < 1.0 has no such registry, so nothing is registered there.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from ..models import Encoder, list_models
from .catalog import CATALOG
from .folder import CONFIG, build_from_config, timm_config
from .store import check_sizes, create_model, from_pretrained, hub_files, with_classes


def register(timm_models: ModuleType) -> None:
    """Adds every model to timm's registry. `timm_models` is the module timm.models."""
    if not hasattr(timm_models, "register_model") or not hasattr(timm_models, "PretrainedCfg"):
        return  # timm 0.x
    global default_cfgs
    cfgs: dict[str, Any] = {name: {} for name in list_models() if not any(r.model == name for r in CATALOG.values())}
    for name, record in CATALOG.items():  # a set in the package has a file, any other has an address
        where = {"url": record.url} if record.url else {"file": record.name}
        cfgs[name] = {**where, "license": record.licence}
    default_cfgs = timm_models.generate_default_cfgs(cfgs)
    for name in list_models():
        timm_models.register_model(_entrypoint(name))


default_cfgs: Any = {}  # timm reads it from the module that defines an entry point
__all__: list[str] = []  # timm appends the names of entry points


def _entrypoint(name: str) -> Callable[..., Encoder]:
    def build(
        pretrained: bool = False,
        pretrained_cfg: Any = None,
        pretrained_cfg_overlay: Any = None,
        cache_dir: Any = None,
        pretrained_model_args: Any = None,
        **kwargs: Any,
    ) -> Encoder:
        model = _build(name, pretrained, pretrained_cfg, cache_dir, kwargs)
        cfg = {"architecture": name, **timm_config(model), **(pretrained_cfg_overlay or {})}
        model.pretrained_cfg = model.default_cfg = cfg  # type: ignore[assignment]  # timm reads both
        return model

    build.__name__ = build.__qualname__ = name
    return build


def _build(name: str, pretrained: bool, cfg: Any, cache_dir: Any, kwargs: dict[str, Any]) -> Encoder:
    if isinstance(cfg, dict) and cfg.get("source") == "local-dir":
        if pretrained:
            return _fitted(from_pretrained(cfg["file"]), kwargs)
        return build_from_config(Path(cfg["file"]) / CONFIG, **kwargs)
    if isinstance(cfg, dict) and cfg.get("source") == "hf-hub":
        repo, _, revision = cfg["hf_hub_id"].partition("@")
        if pretrained:
            return _fitted(from_pretrained(repo, revision=revision or None, cache_dir=cache_dir), kwargs)
        return build_from_config(hub_files(repo, (CONFIG,), revision=revision or None, cache_dir=cache_dir)[0], **kwargs)
    tag = f".{cfg}" if isinstance(cfg, str) and cfg and pretrained else ""
    return create_model(name + tag, pretrained, cache_dir=cache_dir, **kwargs)


def _fitted(model: Encoder, kwargs: dict[str, Any]) -> Encoder:
    """Returns `model` with the head that timm's caller asks for. Other arguments must equal the saved ones."""
    num_classes = kwargs.pop("num_classes", None)
    check_sizes(model, kwargs, "the weight set")
    return with_classes(model, num_classes)
