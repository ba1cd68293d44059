"""The training steps of the original graph, for the tests and for `python -m benchmarks gpu`. Needs no pytest."""

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from support import REFERENCE
from vie_models.bank.ranks import World
from vie_models.train import Run, TrainConfig
from vie_models.train.loading import Batch
from vie_models.weights.tensorflow.names import tf_to_state_dict


def seeded_variables(reference: str) -> dict[str, np.ndarray]:
    spec = importlib.util.spec_from_file_location("seeded_weights", REFERENCE / "seeded_weights.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    shapes = json.loads((REFERENCE / "variables.json").read_text())[reference]
    return {name: module.seeded_variable(name, tuple(shape)) for name, shape in shapes}


def reference_run(task: str, folder: Path, ranks: World | None = None, **settings: Any) -> tuple[Run, Any]:
    """Returns a run with the original's weights, bank and clusters, and the reference of its six steps of IR or LA."""
    ranks = ranks or World()
    reference = np.load(REFERENCE / f"train_{task}_fast_a4.npz")
    hyper = json.loads(str(reference["hyper"]))
    rows = hyper["data_len"]
    (folder / "list").write_text("".join(f"{i}.mp4 0\n" for i in range(rows)))  # never opened: the clips are the reference's
    config = TrainConfig(
        model="vie_fast",
        out=folder / "run",
        train_list=folder / "list",
        device=ranks.device.type,
        batch_size=hyper["batch_size"],
        steps=hyper["steps"],
        ir_steps=hyper["steps"] if task == "IR" else 0,
        noise=reference["noise"].shape[2],
        background=hyper["instance_k"],
        clusters=hyper["kmeans_k"],
        temperature=hyper["instance_t"],
        bank_momentum=hyper["instance_m"],
        lr=hyper["lr"],
        lr_boundaries=tuple(hyper["lr_boundaries"]),
        weight_decay=hyper["weight_decay"],
        **settings,
    )
    run = Run(config, ranks)
    run.model.load_state_dict(tf_to_state_dict(seeded_variables("fast_a4"), run.model))
    start = {"rows": torch.from_numpy(reference["memory_bank_init"]), "rank": 0, "size": 1, "num_rows": rows}
    run.objective.bank.load_state_dict(start)
    run.objective.clusters = torch.from_numpy(reference["cluster_labels"]).to(ranks.device)
    run.objective.begin_step = lambda step, batch_size: None  # draws and clusters are the original's
    return run, reference


def reference_batch(run: Run, reference: Any, step: int) -> Batch:
    """Returns the clips of a step, and gives the run its noise."""
    run.objective._noise = torch.from_numpy(reference["noise"][step]).to(run.ranks.device)
    clips = np.random.default_rng([13, 0]).integers(0, 256, reference["clips_shape"], dtype=np.uint8)
    indices = reference["index"][step]
    return Batch(torch.from_numpy(clips[indices]).movedim(-1, 2), torch.from_numpy(indices), [])


def reference_steps(run: Run, reference: Any) -> Iterator[float]:
    """Makes the six steps, and yields the loss of each."""
    for step in range(6):
        run.train_step(reference_batch(run, reference, step))
        yield run.metrics()["loss"]
