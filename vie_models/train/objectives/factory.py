"""Builds the network and the objective that the settings name."""

from __future__ import annotations

from ...bank.memory_bank import MemoryBank
from ...bank.ranks import World
from ...datasets.lists import VideoList
from ...models import Encoder
from ..settings import TrainConfig
from .instance import InstanceObjective
from .objective import Objective
from .pretext import OrderClassifier, OrderObjective, RotationObjective
from .supervised import LinearReadouts, SupervisedObjective, default_layers


def make_network(config: TrainConfig, num_classes: int) -> Encoder:
    """Returns the untrained network. `num_classes` is the number of classes, for objectives that learn labels."""
    if config.objective == "order":
        return OrderClassifier(config.build(0))
    if config.objective == "readout":
        encoder = config.build()
        return LinearReadouts(encoder, config.layers or default_layers(encoder), num_classes)
    return config.build({"vie": None, "rotation": RotationObjective.num_views, "supervised": num_classes}[config.objective])


def encoder_of(network: Encoder) -> Encoder:
    """Returns the encoder inside a network of `make_network`."""
    return network.encoder if isinstance(network, LinearReadouts | OrderClassifier) else network


def make_objective(config: TrainConfig, videos: VideoList, ranks: World, recluster_every: int) -> Objective:
    """Returns the objective of a run on `videos`.

    Raises:
        ValueError: the videos have no labels, or are fewer than the clusters or background neighbors.
    """
    if config.objective in ("supervised", "readout"):
        if int(videos.labels.min()) < 0:
            raise ValueError(
                f"{config.train_list} has no labels, but objective={config.objective!r} needs them: give lines "
                "`path frames label`"
            )
        return SupervisedObjective(videos.labels, ranks)
    if config.objective in ("rotation", "order"):
        return (RotationObjective if config.objective == "rotation" else OrderObjective)(config.seed, ranks)
    if config.steps > config.ir_steps and max(config.clusters, config.background) > len(videos):
        fewer = max(min(config.clusters, len(videos) // 6), 2), max(min(config.background, len(videos) // 2), 2)
        raise ValueError(
            f"{len(videos)} videos are too few for {config.clusters} clusters and {config.background} background neighbors: "
            f"try --clusters {fewer[0]} --background {fewer[1]}, or --ir-steps {config.steps} for instance recognition alone"
        )
    return InstanceObjective(
        MemoryBank(len(videos), seed=config.seed, momentum=config.bank_momentum, world=ranks),
        ir_steps=config.ir_steps,
        noise=config.noise,
        background=config.background,
        num_clusters=config.clusters,
        clusterings=config.clusterings,
        kmeans_iterations=config.kmeans_iterations,
        recluster_every=recluster_every,
        temperature=config.temperature,
        seed=config.seed,
    )
