"""A weight set as a folder, with the layout of its Hub repository: config.json, model.safetensors, maybe bank.safetensors.

vie_models and timm both read config.json. `architecture`, `model_args` and `pretrained_cfg` are timm's keys; `clip_spec` is
ours. So is `pathways`: the folders of the two sets of a two-pathway set that has no tensors of its own.
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..clip_spec import ClipSpec
from ..files import replacing
from .errors import WeightsError
from .registry import build_model

if TYPE_CHECKING:
    from .encoder import Encoder

CONFIG, MODEL, BANK = "config.json", "model.safetensors", "bank.safetensors"
CONFIG_KEYS = ("architecture", "num_features", "model_args", "clip_spec", "pretrained_cfg", "pathways")
WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
"""What DataParallel and DistributedDataParallel, torch.compile, FSDP and activation checkpointing put into names of tensors."""


def save_pretrained(model: Encoder, folder: str | os.PathLike[str]) -> None:
    """Writes config.json and model.safetensors, which `from_pretrained` and timm load. Tensors keep their data type.

    Each file is replaced atomically.

    Raises:
        ValueError: the model was not made by this package's functions, or is a fused copy.
    """
    if not hasattr(model, "model_name"):
        raise ValueError("only models made by create_model, from_pretrained or two_pathway have a name to save them under")
    if model.fused:
        raise ValueError("a fused copy cannot be loaded again: save the encoder that it was made of")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_tensors(folder / MODEL, model.state_dict())
    write_json(folder / CONFIG, model_config(model))


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Writes a JSON file atomically."""
    with replacing(path) as temporary:
        temporary.write_text(json_text(content))


def json_text(content: dict[str, Any]) -> str:
    """Returns the text of a JSON file, as `write_json` writes it."""
    return json.dumps(content, indent=2) + "\n"


def model_config(model: Encoder) -> dict[str, Any]:
    """Returns the content of config.json."""
    args = dict(model.model_args)
    if model.num_classes is not None:
        args["num_classes"] = model.num_classes
    if not model.global_pool:
        args["global_pool"] = model.global_pool
    return {
        "architecture": model.model_name,
        "num_features": model.num_features,
        "model_args": args,
        "clip_spec": model.clip_spec.to_dict(),
        "pretrained_cfg": timm_config(model),
    }


def timm_config(model: Encoder) -> dict[str, Any]:
    """Returns what timm's PretrainedCfg can hold, derived from the encoder's ClipSpec. The ClipSpec takes precedence."""
    spec = model.clip_spec
    return {
        "input_size": [3, spec.crop, spec.crop],
        "crop_pct": spec.crop / spec.short_side,
        "interpolation": spec.interpolation,
        "mean": list(spec.mean),
        "std": list(spec.std),
        "num_classes": model.embedding_size if model.num_classes is None else model.num_classes,
        "classifier": "head",
    }


def load_folder(folder: str | os.PathLike[str]) -> Encoder:
    """Loads the encoder in a folder, in evaluation mode. A file that is missing or does not fit raises."""
    folder = Path(folder)
    if not (parts := pathways(folder)):
        return load_files(folder / CONFIG, folder / MODEL)
    model = build_from_config(folder / CONFIG, device="meta")
    assign_weights(model, joined_tensors(parts), folder)
    return model.eval()


def pathways(folder: Path) -> dict[str, Path]:
    """Returns the static and dynamic folders of a two-pathway set without tensors of its own; else an empty dict."""
    config = read_config(folder / CONFIG)
    parts = config.get("pathways") or {}
    if parts and (not isinstance(parts, dict) or set(parts) != {"static", "dynamic"}):
        raise WeightsError(f"{folder / CONFIG}: pathways must name the folders of static and dynamic, got {parts!r}")
    return {role: folder / str(parts[role]) for role in ("static", "dynamic") if role in parts}


def joined_tensors(parts: Mapping[str, Path]) -> dict[str, Tensor]:
    """Reads the tensors of a two-pathway set from its pathways' folders."""
    return {f"{role}.{name}": tensor for role, part in parts.items() for name, tensor in read_weights(part / MODEL).items()}


def read_bank(folder: Path) -> dict[str, Tensor] | None:
    """Reads the memory bank in a folder, `memory_bank` float32 [N, D] and `labels` int64 [N]. None if there is none.

    A two-pathway set joins the rows of its pathways as the model joins embeddings: side by side, divided by sqrt(2).
    """
    files = [part / BANK for part in pathways(folder).values()] or [folder / BANK]
    if not all(file.exists() for file in files):
        return None
    banks = [read_tensors(file) for file in files]
    if any(set(bank) != {"memory_bank", "labels"} for bank in banks):
        raise WeightsError(f"{BANK} in {folder} is not a memory bank: it must hold memory_bank and labels, and nothing else")
    rows = torch.cat([bank["memory_bank"].float() for bank in banks], dim=1) / len(banks) ** 0.5
    return {"memory_bank": rows, "labels": banks[0]["labels"].long()}


def load_files(config_path: Path, model_path: Path) -> Encoder:
    """As `load_folder`, from two files that may lie in different folders."""
    model = build_from_config(config_path, device="meta")
    assign_weights(model, read_weights(model_path), model_path)
    return model.eval()


def build_from_config(config_path: Path, device: str = "cpu", **overrides: Any) -> Encoder:
    """Builds an untrained encoder from config.json. `overrides` replace its model_args."""
    config = read_config(config_path)
    try:
        spec = ClipSpec.from_dict(config["clip_spec"])
        args = {**config["model_args"], **overrides}
        with torch.device(device):
            return build_model(config["architecture"], clip_spec=spec, **args)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _no_config(config_path, error) from error


def read_config(path: Path) -> dict[str, Any]:
    """Reads config.json."""
    try:
        config = json.loads(path.read_text())
        if not isinstance(config, dict):
            raise TypeError(f"it holds {config!r}, not an object")
        return config
    except FileNotFoundError:
        raise _missing(path) from None
    except (TypeError, ValueError) as error:
        raise _no_config(path, error) from error


def _missing(path: Path) -> FileNotFoundError:
    if not path.parent.is_dir():
        return FileNotFoundError(f"{path} does not exist: there is no folder {path.parent}")
    return FileNotFoundError(f"{path} does not exist: a weight folder holds {CONFIG} and {MODEL}")


def _no_config(path: Path, error: Exception) -> WeightsError:
    return WeightsError(f"{path} does not describe a VIE encoder: {type(error).__name__}: {error}")


def assign_weights(model: Encoder, state: Mapping[str, Tensor], source: object) -> None:
    """Sets the weights of `model`, also on the meta device, to the tensors of `state`, in float32. Names must match exactly."""
    expected = model.state_dict()
    missing, unknown = sorted(set(expected) - set(state)), sorted(set(state) - set(expected))
    wrong = [k for k in expected if k in state and state[k].shape != expected[k].shape]
    if missing or unknown or wrong:
        example = (
            f"e.g. {', '.join([*missing[:1], *unknown[:1]])}"
            if missing or unknown
            else f"{wrong[0]} is {list(state[wrong[0]].shape)} in the file and {list(expected[wrong[0]].shape)} in the model"
        )
        raise WeightsError(
            f"{source} does not fit {model.model_name} {model.model_args}: {len(missing)} tensors missing, "
            f"{len(unknown)} unknown, "
            f"{len(wrong)} of another shape ({example}); build the model with the sizes and num_classes it was saved with"
        )
    tensors = {k: t.to(torch.float32) if t.is_floating_point() else t for k, t in state.items()}
    model.load_state_dict(tensors, strict=True, assign=True)


def read_weights(path: Path) -> dict[str, Tensor]:
    """Reads a state_dict from a safetensors file, with the names that an encoder has (see `unwrapped`)."""
    return unwrapped(read_tensors(path), path)


def unwrapped(state: dict[str, Tensor], source: object) -> dict[str, Tensor]:
    """Returns a state_dict without what wrappers of a model or of its parts put into names, and warns if there is any.

    "module._orig_mod.stem.conv.weight", of a compiled model in DistributedDataParallel, becomes "stem.conv.weight".
    """
    found = sorted({part for name in state for part in name.split(".")} & WRAPPERS)
    if not found:
        return state
    names = {name: ".".join(part for part in name.split(".") if part not in WRAPPERS) for name in state}
    if len(set(names.values())) < len(names):
        raise WeightsError(f"{source} has some tensors twice, with and without {', '.join(found)}: save one model's state_dict")
    warnings.warn(
        f"{source}: took {', '.join(found)} out of the names of tensors, where a wrapper (DistributedDataParallel, "
        "torch.compile) had put it",
        stacklevel=2,
    )
    return {names[name]: tensor for name, tensor in state.items()}


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Reads all tensors of a safetensors file. A file that is missing or damaged raises.

    The file aligns tensors to 8 bytes only. Kernels, and so the last bits of results, depend on alignment. So tensors are
    copied to memory that PyTorch allocates.
    """
    if not path.is_file():
        raise _missing(path)
    try:
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise WeightsError(f"{path} is not a readable safetensors file: {error}; download or write it again") from error


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Writes a safetensors file atomically."""
    with replacing(path) as temporary:
        save_file({k: t.detach().contiguous() for k, t in tensors.items()}, temporary, metadata={"format": "pt"})


def hash_of_weights(model: Any) -> str:
    """Returns the SHA-256 of a model's state_dict (names, types, shapes, values), in hexadecimal; equal on all devices."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        value = value.detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {list(value.shape)}\n".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
