"""What a run starts from: random weights, given weights, another run, or a TensorFlow checkpoint."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from torch import Tensor

from ..datasets.lists import list_hash
from ..models import Encoder
from ..weights import WeightsError, read_checkpoint, tf_to_state_dict
from ..weights.store import load_weights
from ..weights.tensorflow.names import tf_memory_bank, tf_names
from .checkpoint import CHECKPOINTS, Checkpoint, Checkpoints, open_checkpoint
from .objectives.factory import encoder_of, make_network
from .objectives.instance import InstanceObjective
from .objectives.objective import Objective
from .settings import TrainConfig


def complete(config: TrainConfig, num_videos: int) -> TrainConfig:
    """Returns the settings with `steps` computed from `epochs`, and `width` taken from the weights, if any."""
    config = config.of_videos(num_videos)
    if config.weights is not None and config.width is None:
        config = dataclasses.replace(config, width=_weights(config).model_args["width"])
    return config


def initialize(config: TrainConfig, model: Encoder, optimizer: torch.optim.Optimizer, objective: Objective) -> int:
    """Loads `config.weights` or `config.resume`, if given, and returns the number of steps already made.

    Raises:
        ValueError: the weights or the other run do not fit this run.
        FileNotFoundError: there are no such weights, run or checkpoint.
    """
    if config.weights is not None:
        _load_trunk(config, encoder_of(model), _weights(config))
    if config.resume is None:
        return 0
    if config.resume.parent.name == CHECKPOINTS:
        return _resume_run(config, model, optimizer, objective, open_checkpoint(config.resume))
    if (config.resume / CHECKPOINTS).is_dir():
        newest = Checkpoints(config.resume / CHECKPOINTS).newest()
        if newest is None:
            raise FileNotFoundError(f"{config.resume} has no checkpoint yet")
        return _resume_run(config, model, optimizer, objective, newest)
    return _resume_tensorflow(config, model, optimizer, objective)


def _weights(config: TrainConfig) -> Encoder:
    assert config.weights is not None
    try:
        return load_weights(config.model, config.weights, **config.sizes)
    except (ValueError, WeightsError) as error:
        if config.model != "vie_trn":
            raise
        try:  # a TRN may start from a Single's weights
            return load_weights("vie_single", config.weights, **config.sizes)
        except (ValueError, WeightsError):
            raise error from None


def _load_trunk(config: TrainConfig, model: Encoder, source: Encoder) -> None:
    """Copies the weights of `source`, except a head that does not fit (TRN from Single, classes from an embedding)."""
    state = source.state_dict()
    given, needed = state.get("head.weight"), model.state_dict().get("head.weight")
    if given is None or needed is None or given.shape != needed.shape or source.num_classes != model.num_classes:
        state = {name: value for name, value in state.items() if not name.startswith("head.")}
    expected = {name for name in model.state_dict() if not name.startswith("head.")}
    if missing := sorted(expected - set(state)):
        raise ValueError(f"{config.weights or config.resume} does not fit {config.model}: it lacks {missing[0]}")
    model.load_state_dict(state, strict=False)


def _resume_run(
    config: TrainConfig, model: Encoder, optimizer: torch.optim.Optimizer, objective: Objective, checkpoint: Checkpoint
) -> int:
    """Loads weights, momentum, bank, clusters and step of another run. A TRN can continue a Single, with a new head."""
    state = checkpoint.state()
    source = TrainConfig.from_dict(state["config"])
    if source.objective != config.objective:
        raise ValueError(
            f"{config.resume} is a run with objective={source.objective!r}, not {config.objective!r}: start from its weights "
            "instead (vie export, then --weights)"
        )
    if source.model != config.model and (source.model, config.model) != ("vie_single", "vie_trn"):
        raise ValueError(f"{config.resume} is a run of {source.model}, which {config.model} cannot continue")
    if isinstance(objective, InstanceObjective):
        _check_same_list(config, source, state["list"])
    network = make_network(source, int(state["labels"].max()) + 1)
    network.load_state_dict(state["model"])
    _load_trunk(config, model, network)
    other = torch.optim.SGD(network.parameter_groups(0, 0), lr=0.0, momentum=source.momentum)
    other.load_state_dict(state["optimizer"])
    velocity = {name: other.state[p]["momentum_buffer"] for name, p in network.named_parameters() if p in other.state}
    _set_momentum(model, optimizer, velocity)
    if isinstance(objective, InstanceObjective):
        objective.bank.load_state_dict(*checkpoint.parts())
        objective.load_state_dict(state["objective"])
    return int(state["step"])


def _check_same_list(config: TrainConfig, source: TrainConfig, videos: str) -> None:
    """Raises ValueError unless both runs have the same list of videos, since row i of a memory bank belongs to video i."""
    names = ("part", "binned", "seed") if config.part < 1 else ("part", "binned")
    differing = [name for name in names if getattr(config, name) != getattr(source, name)]
    if videos != list_hash(config.train_list):
        differing.append("train_list")
    if differing:
        raise ValueError(
            f"{config.resume} has another {', '.join(differing)}, so its memory bank belongs to other videos: use the same, or "
            "start from its weights alone (vie export, then --weights)"
        )


def _resume_tensorflow(config: TrainConfig, model: Encoder, optimizer: torch.optim.Optimizer, objective: Objective) -> int:
    """Loads weights, momentum, bank, clusters and step of a TensorFlow checkpoint of the original."""
    assert config.resume is not None
    if not isinstance(objective, InstanceObjective):
        raise ValueError(
            f"{config.resume} is a checkpoint of objective='vie', not {config.objective!r}: start from its weights (--weights)"
        )
    variables = read_checkpoint(config.resume)
    model.load_state_dict(tf_to_state_dict(variables, model))
    slots = {name: variables.get(f"{name}/Momentum", variables[name]) for name in tf_names(model)}
    names = {key for name, key in tf_names(model).items() if f"{name}/Momentum" in variables}
    velocity = {key: value for key, value in tf_to_state_dict(slots, model).items() if key in names}
    _set_momentum(model, optimizer, velocity)
    bank = tf_memory_bank(variables)
    if bank is None:
        raise ValueError(f"{config.resume} has no memory bank: start from its weights alone (--weights)")
    rows = bank["memory_bank"]
    objective.bank.load_state_dict({"rows": rows, "rank": 0, "size": 1, "num_rows": len(rows)})
    if "instance/cluster_labels" in variables:
        clusters = torch.from_numpy(np.ascontiguousarray(variables["instance/cluster_labels"]).astype(np.int32))
        objective.load_state_dict({"clusters": clusters})
    return int(np.asarray(variables["global_step"]).item())


def _set_momentum(model: Encoder, optimizer: torch.optim.Optimizer, velocity: dict[str, Tensor]) -> None:
    for name, parameter in model.named_parameters():
        if name in velocity and velocity[name].shape == parameter.shape:
            optimizer.state[parameter]["momentum_buffer"] = velocity[name].to(parameter.device, parameter.dtype, copy=True)
