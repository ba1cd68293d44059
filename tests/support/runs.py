"""Makes small training runs, in this process or in another one that is killed."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch

from vie_models.train import TrainConfig, read_metrics, recipe
from vie_models.train.checkpoint import Checkpoints

SMALL = {
    **{"width": 4, "batch_size": 4, "noise": 8, "background": 8, "clusters": 4, "ir_steps": 7, "steps": 20, "workers": 0},
    **{"augmentation": "color_jitter", "lr": 0.03, "weight_decay": 1e-4, "temperature": 0.07, "bank_momentum": 0.5},
    **{"schedule": "boundaries", "warmup_steps": 0, "bank_start": "random", "norm_momentum": 0.03},
    **{"save_every": 5, "log_every": 1, "validate_every": 10**6, "device": "cpu"},
}


def settings(corpus, out, **changes) -> dict:
    return {"train_list": corpus / "train", "root": corpus, "out": out, **SMALL, **changes}


def config(corpus, out, **changes) -> TrainConfig:
    return recipe("vie_3dresnet_tiny", **settings(corpus, out, **changes))


def flags(corpus, out, **changes) -> list[str]:
    """Returns the same settings as arguments of `vie train`."""
    values = settings(corpus, out, **changes).items()
    switches = [
        [f"--{key.replace('_', '-')}"] if value is True else [f"--{key.replace('_', '-')}", str(value)] for key, value in values
    ]
    return ["vie_3dresnet_tiny", *[word for switch in switches for word in switch]]


def losses(run: Path) -> list[float]:
    return [line["loss"] for line in read_metrics(run) if "loss" in line]


def newest(run: Path) -> tuple[dict, list[dict]]:
    checkpoint = Checkpoints(run / "checkpoints").newest()
    return checkpoint.state(), checkpoint.parts()


def assert_same_end(one: Path, other: Path) -> None:
    """Asserts that the last checkpoints of two runs hold the same bits."""
    (state, parts), (other_state, other_parts) = newest(one), newest(other)
    for key in ("model", "objective"):
        assert state[key].keys() == other_state[key].keys()
        assert all(torch.equal(value, other_state[key][name]) for name, value in state[key].items())
    momenta = [s["optimizer"]["state"] for s in (state, other_state)]
    assert momenta[0].keys() == momenta[1].keys()
    assert all(torch.equal(value["momentum_buffer"], momenta[1][k]["momentum_buffer"]) for k, value in momenta[0].items())
    assert [part["rank"] for part in parts] == [part["rank"] for part in other_parts]
    assert all(torch.equal(part["rows"], other["rows"]) for part, other in zip(parts, other_parts, strict=True))
    assert state["step"] == other_state["step"]


def start(arguments: list[str], ranks: int = 1, command: tuple[str, ...] = ("train",)) -> subprocess.Popen:
    """Starts `vie train` in a new process, or with torchrun for several ranks."""
    launcher = ["torch.distributed.run", "--nproc-per-node", str(ranks), "-m"] if ranks > 1 else []
    return subprocess.Popen(
        [sys.executable, "-m", *launcher, "vie_models.cli", *command, *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def killed_run(arguments: list[str], out: Path, kills: int, ranks: int, last_step: int, seed: int = 0) -> None:
    """Runs the command `kills` times and kills it at a random step each time; then runs it to the end."""
    random_step = random.Random(seed)
    for _ in range(kills):
        goal = random_step.randint(min(len(losses(out)) + 1, last_step - 1), last_step - 1)
        process = start(arguments, ranks)
        while len(losses(out)) < goal and process.poll() is None:
            time.sleep(0.005)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    process = start(arguments, ranks)
    errors = process.communicate()[1]
    assert process.returncode == 0, errors


def transfer_config(corpus, out, **changes) -> TrainConfig:
    values = {"model": "vie_single_tiny", "objective": "supervised", "val_list": corpus / "val", **changes}
    return TrainConfig(**settings(corpus, out, **values))
