"""The training loop: `pretrain(config)` starts a run, or continues a stopped one.

    RUN/  config.json, metrics.jsonl, failed_videos.jsonl, checkpoints/, tensorboard/, results.json at the end

Every random draw is a function of the seed and of its step, epoch or video. No generator state has to be saved: a continued run
draws the same numbers as an uninterrupted one, on any number of ranks.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..bank.memory_bank import MemoryBank
from ..bank.ranks import world
from ..failures import check_failures
from ..files import replacing
from ..video.transforms import COLOR_CHANGES
from .guards import locked, stop_signals
from .loading import Batch, before_training
from .logs import RunLog
from .objectives.instance import InstanceObjective
from .settings import TrainConfig
from .state import FAILED, RunState

_ENOUGH = 100  # videos in a row that cannot be read: then none can


def pretrain(config: TrainConfig, *, progress: bool = True) -> Path:
    """Trains until `config.steps` and returns the run's folder. Under torchrun, all processes call it.

    Args:
        config: settings of the run. If `config.out` holds a stopped run, that run continues.
        progress: show a progress bar; where there is no terminal, print a line a minute.

    Raises:
        ValueError: the settings do not fit the videos, or differ from those of the run in that folder.
        BlockingIOError: another process is training in that folder, or it cannot be written to.
        TooManyFailuresError: more videos of a list could not be read than `max_failed` allows, or none could.
        WrongArithmeticError: convolutions in half precision are wrong on this machine.
        NotFiniteError: the loss, a weight or a bank row became infinite or not a number. Earlier checkpoints are intact.
        OSError: a checkpoint could not be written. Earlier checkpoints are intact.
        KeyboardInterrupt: SIGINT or SIGTERM arrived, and a checkpoint was written.
    """
    with world(config.device) as ranks, locked(config.out, ranks), stop_signals() as stop:
        run = Run(config, ranks)
        run.look_for_videos()
        run.write_settings()
        config, pace = run.config, run.pace()
        with RunLog(config.out if ranks.is_first else None, step=run.step, steps=config.steps, progress=progress) as log:
            if run.step == 0 and config.bank_start == "embeddings" and isinstance(run.objective, InstanceObjective):
                log.say("the memory bank begins with the embeddings of one pass over the videos")
                run.fill_bank(run.objective.bank)
            batches = run.batches()
            while run.step < config.steps:
                with log.waiting():
                    batch = next(batches)
                if run.agree(batch, stop.is_set(), log.say):
                    run.save()
                    raise KeyboardInterrupt
                run.train_step(batch)
                log.step()
                if said := pace.step(batch, log.last_wait):
                    log.say(said)
                if run.due(config.log_every):
                    log.write(run.step, {**run.metrics(), **log.rates(config.batch_size)})
                with log.aside():
                    if run.due(config.validate_every):
                        log.write(run.step, run.validate())
                    if run.due(config.save_every):
                        run.save()
        run.check(run.step)
    return config.out


class Run(RunState):
    """A run that can make training steps. Methods are collective: all ranks call them."""

    @torch.no_grad()
    def fill_bank(self, bank: MemoryBank) -> None:
        """Replaces the memory bank's rows by the embeddings of one pass over the videos, without learning.

        The pass has views of its own. With those of the first epoch, training would begin by meeting each row's own view.
        """
        buffers = [buffer.clone() for buffer in self.model.buffers()]
        momentum, bank.momentum = bank.momentum, 0.0
        for batch in self.batches(before_training(len(self.videos), self.config.batch_size, self.ranks)):
            bank.update(batch.indices.to(self.ranks.device), self._forward(batch.frames, batch.colors))
        bank.momentum = momentum
        for buffer, before in zip(self.model.buffers(), buffers, strict=True):
            buffer.copy_(before)

    def train_step(self, batch: Batch) -> None:
        """Makes one optimizer step on the clips of all ranks."""
        self.objective.begin_step(self.step, self.config.batch_size)
        indices = batch.indices.to(self.ranks.device, non_blocking=True)
        there = indices >= 0
        share = self.ranks.size / self.ranks.sum(there.sum()).clamp(min=1)  # DDP averages gradients over ranks
        self.optimizer.zero_grad(set_to_none=True)
        outputs = []
        size = len(indices) // self.config.accumulate
        for start in range(0, len(indices), size):
            part = slice(start, start + size)
            with self._last_only(start + size == len(indices)):
                colors = None if batch.colors is None else batch.colors[part]
                output = self._forward(self.objective.views(batch.frames[part], part), colors)
                losses = self.objective.losses(self.step, output, indices[part], part) * there[part]
                (losses.sum() * share).backward()
            outputs.append(output.detach())
            self._losses += torch.stack([losses.detach().sum(), there[part].sum()])
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.lr_at(self.step) * group.get("rate", 1.0)  # an older checkpoint has none
        self.optimizer.step()
        self.objective.end_step(indices, torch.cat(outputs))
        self.step += 1

    def _forward(self, frames: Tensor, colors: Tensor | None = None) -> Tensor:
        """Returns the encoder's float32 output for clips uint8 [b, T, 3, S, S]."""
        frames = frames.to(self.ranks.device, non_blocking=True).contiguous()
        if colors is not None:
            COLOR_CHANGES[self.config.augmentation](frames.flatten(0, 1), colors)
        x = self._normalize(frames)
        if self.config.channels_last:
            x = x.contiguous(memory_format=torch.channels_last_3d)
        dtype = getattr(torch, self.config.dtype)
        with torch.autocast(x.device.type, dtype, enabled=dtype != torch.float32):
            return self._net(x).float()

    def _last_only(self, last: bool) -> contextlib.AbstractContextManager[Any]:
        """Returns a context in which ranks exchange gradients only if this is the last part of a step."""
        several = self.ranks.size > 1 and not last
        return self._net.no_sync() if several else contextlib.nullcontext()  # type: ignore[operator,no-any-return]

    def agree(self, batch: Batch, stop: bool, say: Callable[[str], None] = print) -> bool:
        """Records the videos that could not be read, and returns whether any rank should stop. Called before each step.

        Raises:
            TooManyFailuresError: more videos than allowed could not be read.
        """
        failures, stopping = self.ranks.sum(torch.tensor([len(batch.failures), int(stop)], device="cpu")).tolist()
        if failures:
            new = [one for found in self.ranks.gather_objects(batch.failures) for one in found if one[0] not in self._failed]
            for index, reason in new:
                self._failed[index] = {"step": self.step, "path": str(self.videos.paths[index]), "reason": reason}
                say(f"left out: {reason}")
            if self.ranks.is_first:
                with replacing(self.config.out / FAILED) as file:
                    file.write_text("".join(json.dumps(line) + "\n" for line in self._failed.values()))
            failed, tried = len(self._failed), self._tried(self.step + 1)
            certain = failed > self.config.max_failed * len(self.videos)  # however well the rest of the list is
            if certain or failed >= tried >= _ENOUGH:
                self.check(self.step + 1)
        return bool(stopping)

    def check(self, steps: int) -> None:
        """Raises TooManyFailuresError if too many videos of a list could not be read in `steps` steps, or in validation."""
        config, tried = self.config, self._tried(steps)
        if self._failed:
            reason = next(iter(self._failed.values()))["reason"]
            remedy = f"{config.out / FAILED} lists them, and paths start from --root {config.root}"
            what = f"videos of {config.train_list} that were tried"
            check_failures(len(self._failed), tried, config.max_failed, what=what, first=reason, remedy=remedy)
        if self._val is not None and self._val_failed:
            what, remedy = f"videos of {config.val_list}", f"paths start from --root {config.root}"
            check_failures(self._val_failed, len(self._val), config.max_failed, what=what, remedy=remedy)

    def _tried(self, steps: int) -> int:
        """Returns how many videos of the list a number of steps has tried to read."""
        return min(steps * self.config.batch_size, len(self.videos))

    def due(self, every: int) -> bool:
        """Returns whether this step is a multiple of `every`, or the last one."""
        return self.step % every == 0 or self.step == self.config.steps

    def metrics(self) -> dict[str, Any]:
        """Returns the mean loss of all ranks' clips since the last call, with epoch, objective, learning rate and failures.

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

    def save(self) -> None:
        """Writes a checkpoint.

        Raises:
            NotFiniteError: the loss, a weight or a row of the memory bank is infinite or not a number.
        """
        if not bool(torch.isfinite(self.ranks.sum(self._losses)).all()):
            self.metrics()
        bank = self.objective.bank.state_dict() if isinstance(self.objective, InstanceObjective) else None
        values = [value for value in self.model.state_dict().values() if value.is_floating_point()]
        values += [] if bank is None else [bank["rows"]]
        bad = torch.stack([(~torch.isfinite(value)).any() for value in values]).sum()
        if int(self.ranks.sum(bad)):
            raise self._not_finite("a weight or a row of the memory bank is infinite or not a number")
        self.checkpoints.save(self.step, self.state_dict(), bank)

    def _not_finite(self, what: str) -> NotFiniteError:
        return NotFiniteError(
            f"{what} at step {self.step}: try a smaller lr (it is {self.config.lr_at(self.step - 1):g}). The checkpoints in "
            f"{self.checkpoints.folder} are from earlier steps and are intact"
        )


class NotFiniteError(RuntimeError):
    """The loss, a weight or a row of the memory bank is infinite or not a number."""
