"""Maps the names of the reference's TensorFlow variables to ours."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from ...models import Encoder
from ...models.blocks import Block, NormAct
from ...models.slowfast import VIESlowfast
from ...models.twopathway import VIETwoPathway
from .bundle import CheckpointError

NOT_WEIGHTS = re.compile(r"global_step|instance/(memory_bank|all_labels|cluster_labels)|.+/Momentum")
BATCH_NORM = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}


def tf_names(model: Encoder) -> dict[str, str]:
    """Returns TensorFlow variable name -> state_dict key, for every weight of the model's pathways.

    The reference numbers convolutions and norms in order of creation: the stem; then in each block norm1, shortcut, conv1,
    norm2, conv2. Slowfast creates its fast pathway first. Its slow pathway has a lateral after the pool and after each stage.
    """
    if isinstance(model, VIETwoPathway):
        return {
            **_encoder_names(model.static, "static.", "resnet_model"),
            **_encoder_names(model.dynamic, "dynamic.", "resnet_model_slow"),
        }
    return _encoder_names(model, "", "resnet_model_slow" if isinstance(model, VIESlowfast) else "resnet_model")


def _encoder_names(model: Encoder, prefix: str, scope: str) -> dict[str, str]:
    names = {f"{scope}/dense/kernel": f"{prefix}head.weight", f"{scope}/dense/bias": f"{prefix}head.bias"}
    if isinstance(model, VIESlowfast):
        laterals = {f"lateral.{k}": module for k, module in enumerate(model.lateral)}
        names |= _trunk_names(model.fast, f"{prefix}fast.", "resnet_model_fast")
        names |= _trunk_names(model.slow, f"{prefix}slow.", scope, [f"{prefix}{path}" for path in laterals])
        return names
    return names | _trunk_names(model, prefix, scope)


def _trunk_names(trunk: nn.Module, prefix: str, scope: str, laterals: list[str] | None = None) -> dict[str, str]:
    convs: list[str] = []
    norms: list[str] = []

    def visit(path: str) -> None:
        (norms if isinstance(trunk.get_submodule(path), NormAct) else convs).append(prefix + path)

    def visit_lateral(k: int) -> None:
        if laterals:
            convs.append(laterals[k])

    visit("stem.conv")
    visit_lateral(0)
    for s, stage in enumerate(trunk.get_submodule("stages").children()):
        for b, block in enumerate(stage.children()):
            assert isinstance(block, Block)
            parts = ["norm1", "shortcut", "conv1", "norm2", "conv2"]
            for part in parts:
                if part != "shortcut" or block.shortcut is not None:
                    visit(f"stages.{s}.{b}.{part}")
        visit_lateral(s + 1)
    visit("norm")
    conv_kind = "conv2d" if isinstance(trunk.get_submodule("stem.conv"), nn.Conv2d) else "conv3d"
    names = {f"{scope}/{_numbered(conv_kind, k)}/kernel": f"{path}.weight" for k, path in enumerate(convs)}
    for k, path in enumerate(norms):
        for leaf, ours in BATCH_NORM.items():
            names[f"{scope}/{_numbered('batch_normalization', k)}/{leaf}"] = f"{path}.{ours}"
    return names


def _numbered(kind: str, k: int) -> str:
    return f"{kind}_{k}" if k else kind


def tf_to_state_dict(variables: Mapping[str, np.ndarray], model: Encoder) -> dict[str, Tensor]:
    """Converts TensorFlow variables to the state_dict of `model`. Every variable must have its weight, and the reverse.

    Args:
        variables: variable name -> array, from `read_checkpoint`. Optimizer slots, the step and the memory bank are ignored.
        model: an encoder with its embedding head; it may be on the meta device.

    Returns:
        state_dict key -> tensor, float32 except for the counters of batch norms.

    Raises:
        CheckpointError: a variable is missing, unknown or of another shape, or the model has no embedding head.
    """
    if model.num_classes is not None:
        raise CheckpointError(
            f"the reference's weights have an embedding head: build {model.model_name} with num_classes=None, "
            "then call reset_classifier"
        )
    names = tf_names(model)
    expected = model.state_dict()
    missing = sorted(set(names) - set(variables))
    unknown = sorted(n for n in set(variables) - set(names) if not NOT_WEIGHTS.fullmatch(n))
    if missing or unknown:
        raise CheckpointError(
            f"not the variables of {model.model_name}: {len(missing)} missing ({', '.join(missing[:3]) or '-'}), "
            f"{len(unknown)} unknown ({', '.join(unknown[:3]) or '-'})"
        )
    state = {key: torch.zeros((), dtype=torch.long, device="cpu") for key in expected if key.endswith("num_batches_tracked")}
    for name, key in names.items():
        value = variables[name]
        # kernels: ([t,] h, w, in, out) -> (out, in, [t,] h, w); dense (in, out) -> (out, in)
        if name.endswith("/kernel") and value.ndim >= 2:
            value = value.transpose(-1, -2, *range(value.ndim - 2))
        if value.shape != expected[key].shape:
            raise CheckpointError(
                f"{name} gives {key} the shape {list(value.shape)}, but {model.model_name} has "
                f"{list(expected[key].shape)}; does its width differ?"
            )
        state[key] = _copied(value, torch.float32)
    return {key: state[key] for key in expected}


def tf_memory_bank(variables: Mapping[str, np.ndarray]) -> dict[str, Tensor] | None:
    """Returns `memory_bank` float32 [N, 128] and `labels` int64 [N], or None if the checkpoint has no bank."""
    if "instance/memory_bank" not in variables:
        return None
    bank, labels = variables["instance/memory_bank"], variables.get("instance/all_labels")
    if labels is None or bank.ndim != 2 or labels.shape != bank.shape[:1]:
        raise CheckpointError(
            f"a memory bank {list(bank.shape)} needs one label per row, got {None if labels is None else list(labels.shape)}"
        )
    return {
        "memory_bank": _copied(bank, torch.float32),
        "labels": _copied(labels, torch.int64),
    }


def _copied(value: np.ndarray, dtype: torch.dtype) -> Tensor:
    """Copies to memory that PyTorch allocates. It is aligned; kernels, and so the last bits of results, depend on that."""
    tensor = torch.empty(value.shape, dtype=dtype, device="cpu")
    tensor.numpy()[...] = value
    return tensor


def tf_width(variables: Mapping[str, np.ndarray]) -> int:
    """Returns the base width of the encoder in the variables: the output channels of its (slow pathway's) stem."""
    for scope in ("resnet_model_slow", "resnet_model"):
        for kind in ("conv3d", "conv2d"):
            if f"{scope}/{kind}/kernel" in variables:
                return int(variables[f"{scope}/{kind}/kernel"].shape[-1])
    raise CheckpointError(
        "these are not the variables of one of the reference's encoders: they have no resnet_model/conv3d/kernel or similar"
    )
