"""The parameters of a network in groups for its optimizer: what decays, and what learns at a rate of its own."""

from __future__ import annotations

from typing import Any

from ..models import Encoder
from .settings import TrainConfig


def parameter_groups(network: Encoder, config: TrainConfig) -> list[dict[str, Any]]:
    """Returns the groups of a network's parameters. Those of its head are apart if `config.head_rate` is not 1.

    Each group has `rate`, by which the learning rate of a step is multiplied.
    """
    groups = network.parameter_groups(config.weight_decay, config.weight_decay)
    if config.head_rate == 1:
        return [{**group, "rate": 1.0} for group in groups]
    of_head = {id(parameter) for name, parameter in network.named_parameters() if name.startswith("head.")}
    split = []
    for group in groups:
        for name, rate, inside in ((group["name"], 1.0, False), (f"head {group['name']}", config.head_rate, True)):
            parameters = [p for p in group["params"] if (id(p) in of_head) is inside]
            split.append({**group, "name": name, "params": parameters, "rate": rate})
    return [group for group in split if group["params"]]
