"""The state of a run on one rank: videos, encoder, objective and optimizer. Saves, restores and validates them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import convert_conv2d_weight_memory_format, convert_conv3d_weight_memory_format

from ..bank.ranks import World
from ..datasets.lists import VideoList, list_hash, read_list, warn_of_shared
from ..datasets.readable import check_readable
from ..evaluate.results import write_results
from ..failures import are_too_many
from ..files import replacing
from ..models.precision import SLOWER, check_convolutions, times_of_float32
from ..video.transforms import clip_transform
from .begin import begin, check_settings, fitted
from .checkpoint import CHECKPOINTS, Checkpoints
from .loading import Batch, ClipDataset, EpochSampler, loader
from .objectives.choose import make_network, make_objective
from .objectives.instance import InstanceObjective
from .optimizer import parameter_groups
from .pace import Pace
from .settings import TrainConfig
from .validation import validate, validation_videos

CONFIG, FAILED = "config.json", "failed_videos.jsonl"


class RunState:
    """The state of a run, restored from its last checkpoint if it has one. Methods are collective: all ranks call them.

    Attributes:
        config: the settings, with `steps` and `width` filled in from the videos and the weights.
        step: number of steps made.
        model: the network (see objectives/choose.py), without DistributedDataParallel or torch.compile around it.
    """

    def __init__(self, config: TrainConfig, ranks: World | None = None) -> None:
        self.ranks = ranks or World()
        self.videos = training_videos(config)
        self.config = config = fitted(config, len(self.videos))
        self._val = validation_videos(config, self.videos.labels)
        if self._val is not None and self.ranks.is_first:
            warn_of_shared(self.videos, self._val, root=config.root, names=(config.train_list, config.val_list))
        self.sampler = EpochSampler(len(self.videos), config.batch_size, seed=config.seed, world=self.ranks)
        self._clips = config.batch_size // self.ranks.size  # of this rank, per step
        if self._clips % config.accumulate:
            raise ValueError(
                f"each of {self.ranks.size} processes has {self._clips} clips per step, which must be "
                f"a multiple of accumulate ({config.accumulate})"
            )
        self.objective = make_objective(config, self.videos, self.ranks, self.sampler.steps_per_epoch)
        torch.manual_seed(config.seed)
        with torch.device("cpu"):  # whatever the default device is
            network = make_network(config, self.videos.num_classes)
        self.model = network.to(self.ranks.device)
        self.optimizer = torch.optim.SGD(parameter_groups(self.model, config), lr=config.lr, momentum=config.momentum)
        self.step = 0
        self._failed: dict[int, dict[str, Any]] = {}
        self._val_failed = 0  # of the last validation
        self._losses = torch.zeros(2, dtype=torch.float64, device=self.ranks.device)  # sum and number since the last metrics
        self._list_hash = list_hash(config.train_list)
        self.checkpoints = Checkpoints(config.out / CHECKPOINTS, keep=config.keep, world=self.ranks)
        self._begin()
        self._normalize = clip_transform(self.model).normalize
        self._net = self._prepared()

    def _begin(self) -> None:
        """Restores the run's last checkpoint, or begins as the settings say."""
        if (newest := self.checkpoints.newest()) is not None:
            state = newest.state()
            check_settings(self.config, state["config"], self.config.out)
            if state["list"] != self._list_hash:
                raise ValueError(
                    f"{self.config.train_list} is not the list that the run in {self.config.out} started with, and each row of "
                    "the memory bank belongs to one video of that list. Use the same list, or choose another folder"
                )
            self.load_state_dict(state, newest.parts())
            self._check_finished(TrainConfig.from_dict(state["config"]))
        else:
            with torch.device("cpu"):
                self.step = begin(self.config, self.model, self.optimizer, self.objective)
        self.sampler.first_step = self.step

    def _check_finished(self, before: TrainConfig) -> None:
        """Raises ValueError if the run is finished and its validation settings change: it does not validate again."""
        names = ("val_list", "root", "val_clips", "val_placement", "neighbors")
        if self.step < self.config.steps or self.config.val_list is None:
            return
        if differing := [name for name in names if getattr(before, name) != getattr(self.config, name)]:
            raise ValueError(
                f"the run in {self.config.out} is finished, and its validation had another {', '.join(differing)}: choose "
                "another folder, or export its weights and evaluate them"
            )

    def _prepared(self) -> nn.Module:
        """Returns the network as training calls it: in train mode, wrapped for several ranks, compiled if asked."""
        config = self.config
        self.model.train()
        if config.dtype != "float32":
            self._advise_float32()
            check_convolutions(self.model, self._clips // config.accumulate, getattr(torch, config.dtype))
        self.model.set_grad_checkpointing(config.grad_checkpointing)
        if config.channels_last:
            convert_conv2d_weight_memory_format(self.model, torch.channels_last)
            convert_conv3d_weight_memory_format(self.model, torch.channels_last_3d)
        net: nn.Module = self.model
        if self.ranks.size > 1:
            on_gpu = self.ranks.device.type == "cuda"
            net = DistributedDataParallel(net, device_ids=[self.ranks.device] if on_gpu else None)
        return torch.compile(net) if config.compile else net  # type: ignore[return-value]

    def _advise_float32(self) -> None:
        """Says so if this processor is slower in half precision. GPUs are not."""
        if not self.ranks.is_first or self.ranks.device.type != "cpu":
            return
        if (times := times_of_float32(getattr(torch, self.config.dtype))) > SLOWER:
            print(
                f"on this processor, a convolution takes {times:.1f} times as long in {self.config.dtype} as in float32: "
                "--dtype float32 is faster",
                file=sys.stderr,
                flush=True,
            )

    def look_for_videos(self) -> None:
        """Raises TooManyFailuresError if too many videos of a list are not there, or none can be read."""
        lists = [(self.videos, self.config.train_list), (self._val, self.config.val_list)]
        for videos, file in lists:
            if videos is not None and file is not None and self.step < self.config.steps:
                check_readable(videos, file, self.config.root, self.config.max_failed)

    def write_settings(self) -> None:
        """Writes config.json to the run's folder."""
        if self.ranks.is_first:
            with replacing(self.config.out / CONFIG) as path:
                path.write_text(json.dumps(self.config.to_dict(), indent=2) + "\n")

    def batches(self, views: Iterable[list[tuple[int, int]]] | None = None) -> Iterator[Batch]:
        """Returns this rank's batches: those of `views`, lists of (epoch, index); without it, all from the next step on."""
        config = self.config
        dataset = ClipDataset(
            self.videos,
            self.model.clip_spec,
            recipe=config.augmentation,
            color=config.augment == "workers",
            seed=config.seed,
        )
        return loader(dataset, views or self.sampler, clips=self._clips, workers=config.workers, device=self.ranks.device)

    def pace(self) -> Pace:
        """What will say what limits the speed of the run."""
        config = self.config
        root = "" if config.root == Path() else f" --root {config.root}"
        return Pace(
            clips=self._clips,
            workers=config.workers,
            packed=config.train_list.is_dir(),
            on_gpu=self.ranks.device.type == "cuda",
            pack_command=f"vie data pack {config.train_list} PACK{root} --model {config.model}, and --train-list PACK",
        )

    def validate(self) -> dict[str, Any]:
        """Returns the accuracy on the videos of val_list, or {} without such a list. Writes results.json at the last step."""
        if self._val is None:
            return {}
        for buffer in self.model.buffers():  # DDP does this only before its next forward pass
            self.ranks.broadcast(buffer)
        try:
            results, metrics = validate(self.config, self.model, self.objective, self._val, self.videos.labels, self.ranks)
        finally:
            self.model.train()
        self._val_failed = metrics["val_failed"]
        too_many = are_too_many(self._val_failed, len(self._val), self.config.max_failed)  # the run will end with an error
        if self.ranks.is_first and self.step == self.config.steps and not too_many:
            write_results(self.config.out, results)
        return metrics

    def state_dict(self) -> dict[str, Any]:
        """Returns the state that all ranks share. The memory bank is saved apart."""
        return {
            "step": self.step,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "objective": self.objective.state_dict(),
            "failed": self._failed,
            "val_failed": self._val_failed,
            "labels": self.videos.labels,
            "list": self._list_hash,
            "config": self.config.to_dict(),
        }

    def load_state_dict(self, state: dict[str, Any], parts: list[dict[str, Any]]) -> None:
        """Restores a `state_dict`. `parts` are the memory bank's states of all ranks that saved it."""
        self.step, self._failed, self._val_failed = state["step"], state["failed"], state.get("val_failed", 0)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.objective.load_state_dict(state["objective"])
        if isinstance(self.objective, InstanceObjective):
            self.objective.bank.load_state_dict(*parts)


def count_failed(run: Path) -> int:
    """Returns how many training videos the run in a folder could not read."""
    file = run / FAILED
    return len(file.read_text().splitlines()) if file.exists() else 0


def training_videos(config: TrainConfig) -> VideoList:
    """Returns the instances of a run, in the order of the memory bank's rows."""
    videos = read_list(config.train_list, config.root)
    if config.part < 1:
        videos = videos.part(config.part, config.seed)
    return videos.binned() if config.binned else videos
