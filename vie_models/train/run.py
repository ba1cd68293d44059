"""A run on this rank: its videos, encoder, objective and optimiser, and what is done with them at every step."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import convert_conv2d_weight_memory_format, convert_conv3d_weight_memory_format

from ..models.precision import check_convolutions
from ..video.transforms import clip_transform
from ..weights.folder import replacing, sha256_of
from .checkpoint import CHECKPOINTS, Checkpoints
from .data import Batch, ClipDataset, EpochSampler, VideoList, loader, read_list
from .distributed import World, synchronise_norms
from .objectives import InstanceObjective
from .recipes import TrainConfig
from .results import write_results
from .start import begin, check_settings, fitted
from .tasks import make_network, make_objective
from .validation import validate, validation_videos

CONFIG, FAILED = "config.json", "failed_videos.jsonl"


class TooManyFailuresError(RuntimeError):
    """More videos could not be read than the run was allowed."""


class NotFiniteError(RuntimeError):
    """The loss is no number any more."""


class Run:
    """What a run consists of, from its last checkpoint on if it has one. Methods are collective: all ranks call them.

    Attributes:
        config: the settings, with what was left to the videos and the weights filled in.
        step: how many steps have been made.
        model: the network (see tasks.py), without what wraps it for training.
    """

    def __init__(self, config: TrainConfig, ranks: World | None = None) -> None:
        self.ranks = ranks or World()
        self.videos = training_videos(config)
        self.config = config = fitted(config, len(self.videos))
        self._val = validation_videos(config, self.videos.labels)
        self.sampler = EpochSampler(len(self.videos), config.batch_size, seed=config.seed, world=self.ranks)
        if (config.batch_size // self.ranks.size) % config.accumulate:
            raise ValueError(
                f"each of {self.ranks.size} processes has {config.batch_size // self.ranks.size} clips a step, which "
                f"accumulate={config.accumulate} does not divide"
            )
        self.objective = make_objective(config, self.videos, self.ranks, self.sampler.steps_per_epoch)
        torch.manual_seed(config.seed)
        self.model = make_network(config, self.videos.num_classes).to(self.ranks.device)
        self.optimiser = torch.optim.SGD(
            self.model.parameter_groups(config.weight_decay, config.weight_decay), lr=config.lr, momentum=config.momentum
        )
        self.step = 0
        self._failed: dict[int, dict[str, Any]] = {}
        self._losses = torch.zeros(2, dtype=torch.float64, device=self.ranks.device)  # sum and number since the last metrics
        self._list_hash = sha256_of(config.train_list)
        self.checkpoints = Checkpoints(config.out / CHECKPOINTS, keep=config.keep, world=self.ranks)
        self._begin()
        self._normalise = clip_transform(self.model).normalise
        self._net = self._prepared()

    def _begin(self) -> None:
        """From the run's own last checkpoint, or from where the settings say."""
        if (newest := self.checkpoints.newest()) is not None:
            state = newest.state()
            check_settings(self.config, state["config"], self.config.out)
            if state["list"] != self._list_hash:
                raise ValueError(
                    f"{self.config.train_list} is not the list that the run in {self.config.out} was begun with, and every "
                    "video has its row in the memory bank. Choose another folder, or the same list"
                )
            self.load_state_dict(state, newest.parts())
            self._check_finished(TrainConfig.from_dict(state["config"]))
        else:
            self.step = begin(self.config, self.model, self.optimiser, self.objective)
        self.sampler.first_step = self.step

    def _check_finished(self, before: TrainConfig) -> None:
        """A run that is at its end has been validated: it will not be again, with other settings."""
        names = ("val_list", "root", "val_clips", "neighbours")
        if self.step < self.config.steps or self.config.val_list is None:
            return
        if differing := [name for name in names if getattr(before, name) != getattr(self.config, name)]:
            raise ValueError(
                f"the run in {self.config.out} is at its end, and {', '.join(differing)} was another: choose another folder, "
                "or export its weights and evaluate them"
            )

    def _prepared(self) -> nn.Module:
        """The encoder as it is called in training."""
        config = self.config
        self.model.train()
        if config.dtype != "float32":
            clips = config.batch_size // self.ranks.size // config.accumulate
            check_convolutions(self.model, clips, getattr(torch, config.dtype))
        self.model.set_grad_checkpointing(config.grad_checkpointing)
        if config.sync_norms and self.ranks.size > 1:
            synchronise_norms(self.model, self.ranks)
        if config.channels_last:
            convert_conv2d_weight_memory_format(self.model, torch.channels_last)
            convert_conv3d_weight_memory_format(self.model, torch.channels_last_3d)
        net: nn.Module = self.model
        if self.ranks.size > 1:
            on_gpu = self.ranks.device.type == "cuda"
            net = DistributedDataParallel(net, device_ids=[self.ranks.device] if on_gpu else None)
        return torch.compile(net) if config.compile else net  # type: ignore[return-value]

    def write_settings(self) -> None:
        """Leaves config.json in the run's folder."""
        if self.ranks.is_first:
            with replacing(self.config.out / CONFIG) as path:
                path.write_text(json.dumps(self.config.to_dict(), indent=2) + "\n")

    def batches(self) -> Iterator[Batch]:
        """This rank's clips of the steps to come, without end."""
        dataset = ClipDataset(self.videos, self.model.clip_spec, recipe=self.config.augmentation, seed=self.config.seed)
        return iter(loader(dataset, self.sampler, workers=self.config.workers, device=self.ranks.device))

    def agree(self, batch: Batch, stop: bool, say: Callable[[str], None] = print) -> bool:
        """Before a step: records what could not be read; whether any rank is to stop.

        Raises:
            TooManyFailuresError: more videos than allowed could not be read.
        """
        failures, stopping = self.ranks.sum(torch.tensor([len(batch.failures), int(stop)])).tolist()
        if failures:
            new = [one for found in self.ranks.gather_objects(batch.failures) for one in found if one[0] not in self._failed]
            for index, reason in new:
                self._failed[index] = {"step": self.step, "path": str(self.videos.paths[index]), "reason": reason}
                say(f"left out: {reason}")
            if self.ranks.is_first:
                with replacing(self.config.out / FAILED) as file:
                    file.write_text("".join(json.dumps(line) + "\n" for line in self._failed.values()))
            if len(self._failed) > self.config.max_failures:
                reasons = "\n  ".join(failure["reason"] for failure in self._failed.values())
                raise TooManyFailuresError(
                    f"{len(self._failed)} videos could not be read, and max_failures allows {self.config.max_failures}; they "
                    f"are listed in {self.config.out / FAILED}. Mend them, or allow more:\n  {reasons}"
                )
        return bool(stopping)

    def train_step(self, batch: Batch) -> None:
        """One step of the optimiser on the clips of all ranks."""
        self.objective.begin_step(self.step, self.config.batch_size)
        indices = batch.indices.to(self.ranks.device, non_blocking=True)
        there = indices >= 0
        share = self.ranks.size / self.ranks.sum(there.sum()).clamp(min=1)  # DDP takes the mean of the ranks' gradients
        self.optimiser.zero_grad(set_to_none=True)
        outputs = []
        size = len(indices) // self.config.accumulate
        for start in range(0, len(indices), size):
            part = slice(start, start + size)
            with self._last_only(start + size == len(indices)):
                output = self._forward(self.objective.views(batch.frames[part], part))
                losses = self.objective.losses(self.step, output, indices[part], part) * there[part]
                (losses.sum() * share).backward()
            outputs.append(output.detach())
            self._losses += torch.stack([losses.detach().sum(), there[part].sum()])
        for group in self.optimiser.param_groups:
            group["lr"] = self.config.lr_at(self.step)
        self.optimiser.step()
        self.objective.end_step(indices, torch.cat(outputs))
        self.step += 1

    def _last_only(self, last: bool) -> contextlib.AbstractContextManager[Any]:
        """Gradients are exchanged in the last part of a step."""
        several = self.ranks.size > 1 and not last
        return self._net.no_sync() if several else contextlib.nullcontext()  # type: ignore[operator,no-any-return]

    def _forward(self, frames: Tensor) -> Tensor:
        """uint8 [b, T, 3, S, S] -> what the encoder gives, float32."""
        x = self._normalise(frames.to(self.ranks.device, non_blocking=True))
        if self.config.channels_last:
            x = x.contiguous(memory_format=torch.channels_last_3d)
        dtype = getattr(torch, self.config.dtype)
        with torch.autocast(x.device.type, dtype, enabled=dtype != torch.float32):
            return self._net(x).float()

    def due(self, every: int) -> bool:
        """Whether what is done every so many steps, and at the end, is to be done now."""
        return self.step % every == 0 or self.step == self.config.steps

    def metrics(self) -> dict[str, Any]:
        """What happened since this was last called.

        Raises:
            NotFiniteError: the loss is infinite or not a number.
        """
        total, number = self.ranks.sum(self._losses).tolist()
        self._losses.zero_()
        loss = total / max(number, 1)
        if not math.isfinite(loss):
            raise self._not_finite(f"the loss is {loss}")
        kind = self.config.objective
        return {
            "epoch": self.step / self.sampler.steps_per_epoch,
            "objective": kind if kind != "vie" else "LA" if self.step > self.config.ir_steps else "IR",
            "loss": loss,
            "lr": self.config.lr_at(self.step - 1),
            "failed_videos": len(self._failed),
        }

    def _not_finite(self, what: str) -> NotFiniteError:
        return NotFiniteError(
            f"{what} at step {self.step}: try a smaller lr (it is {self.config.lr_at(self.step - 1):g}); the checkpoints in "
            f"{self.checkpoints.folder} are from before"
        )

    def validate(self) -> dict[str, Any]:
        """The accuracy on the videos of val_list, written to results.json at the end; nothing where there is no such list."""
        if self._val is None:
            return {}
        for buffer in self.model.buffers():  # DDP does so before its next forward pass alone
            self.ranks.broadcast(buffer)
        try:
            results, metrics = validate(self.config, self.model, self.objective, self._val, self.videos.labels, self.ranks)
        finally:
            self.model.train()
        if self.ranks.is_first and self.step == self.config.steps:
            write_results(self.config.out, results)
        return metrics

    def save(self) -> None:
        """Writes a checkpoint; NotFiniteError where it would hold what is no number, and be good for nothing."""
        if not bool(torch.isfinite(self.ranks.sum(self._losses)).all()):
            self.metrics()
        bank = self.objective.bank.state_dict() if isinstance(self.objective, InstanceObjective) else None
        values = [value for value in self.model.state_dict().values() if value.is_floating_point()]
        values += [] if bank is None else [bank["rows"]]
        bad = torch.stack([(~torch.isfinite(value)).any() for value in values]).sum()
        if int(self.ranks.sum(bad)):
            raise self._not_finite("a weight or a row of the memory bank is infinite or not a number")
        self.checkpoints.save(self.step, self.state_dict(), bank)

    def state_dict(self) -> dict[str, Any]:
        """What all ranks share."""
        return {
            "step": self.step,
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "objective": self.objective.state_dict(),
            "failed": self._failed,
            "labels": self.videos.labels,
            "list": self._list_hash,
            "config": self.config.to_dict(),
        }

    def load_state_dict(self, state: dict[str, Any], parts: list[dict[str, Any]]) -> None:
        """The inverse; `parts` are the bank's, of all ranks that saved it."""
        self.step, self._failed = state["step"], state["failed"]
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.objective.load_state_dict(state["objective"])
        if isinstance(self.objective, InstanceObjective):
            self.objective.bank.load_state_dict(*parts)


def training_videos(config: TrainConfig) -> VideoList:
    """The instances of a run, in the order of the memory bank's rows."""
    videos = read_list(config.train_list, config.root)
    if config.part < 1:
        videos = videos.part(config.part, config.seed)
    return videos.binned() if config.binned else videos
