"""One training run: its videos, network, objective and optimizer, what a step does, and what it saves and restores.

Every random draw is a function of the seed and of its step, epoch or video. No generator state has to be saved: a continued run
draws the same numbers as an uninterrupted one, on any number of ranks.
"""

from __future__ import annotations

import contextlib
import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ..bank.memory_bank import MemoryBank
from ..bank.ranks import World
from ..datasets.lists import VideoList, list_hash, read_list, warn_of_shared
from ..datasets.readable import check_readable
from ..devices import to_channels_last
from ..evaluate.results import write_results
from ..failures import are_too_many, check_failures
from ..files import replacing
from ..models.precision import SLOWER, check_convolutions, cudnn_fault, times_of_float32
from ..video.transforms import COLOR_CHANGES, clip_transform
from .checkpoint import CHECKPOINTS, CONFIG, Checkpoint, Checkpoints
from .initialize import complete, initialize
from .loading import Batch, ClipDataset, EpochSampler, before_training, copied, loader
from .logs import Pace
from .objectives.factory import make_network, make_objective
from .objectives.instance import InstanceObjective
from .optimizer import parameter_groups
from .settings import FIXED, TrainConfig
from .validation import validate, validation_videos

FAILED = "failed_videos.jsonl"
_AGREE_EVERY = 10  # steps
_SMALL = 5_000_000  # parameters: more than any tiny encoder has, fewer than one with 64 channels
_NONE_READ = 100  # videos in a row that cannot be read: then none can


class NotFiniteError(RuntimeError):
    """The loss, a weight or a row of the memory bank is infinite or not a number."""


class Run:
    """A run, restored from its last checkpoint if it has one. Methods are collective: all ranks call them.

    Attributes:
        config: the settings, with `steps` and `width` filled in from the videos and the weights.
        step: number of steps made.
        model: the network (see objectives/factory.py), without DistributedDataParallel or torch.compile around it.
        videos: the training videos, in the order of the memory bank's rows.

    Args:
        config: the settings.
        ranks: the processes of the run. Default: this one, on the CPU.

    Raises:
        ValueError: the settings do not fit the videos, or differ from those of the run in `config.out`.
        WrongArithmeticError: convolutions in half precision are wrong on this machine.
    """

    def __init__(self, config: TrainConfig, ranks: World | None = None) -> None:
        self.ranks = ranks or World()
        self._on_gpu = self.ranks.device.type == "cuda"
        self.videos = training_videos(config)
        self.config = config = complete(config, len(self.videos), self.ranks.device)
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
        groups = parameter_groups(self.model, config)
        self.optimizer = torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, fused=self._on_gpu or None)
        self.step = 0
        self._failed: dict[int, dict[str, Any]] = {}
        self._unreported: list[tuple[int, int, str]] = []  # (step, index, reason) of this rank, since ranks agreed
        self._val_failed = 0  # of the last validation
        self._losses = torch.zeros(2, dtype=torch.float64, device=self.ranks.device)  # sum and number since the last metrics
        self._list_hash = list_hash(config.train_list)
        self.checkpoints = Checkpoints(config.out / CHECKPOINTS, keep=config.keep, world=self.ranks)
        if (newest := self.checkpoints.newest()) is not None:
            self._restore(newest)
        else:
            with torch.device("cpu"):
                self.step = initialize(self.config, self.model, self.optimizer, self.objective)
        self.sampler.first_step = self.step
        self.normalize = clip_transform(self.model).normalize
        self.network = self._prepared()

    # --- the step ---------------------------------------------------------------------------------------------------------

    def train_step(self, batch: Batch) -> None:
        """Makes one optimizer step on the clips of all ranks."""
        self.objective.begin_step(self.step, self.config.batch_size)
        frames, indices = self.prepared(batch), batch.indices.to(self.ranks.device, non_blocking=True)
        there = indices >= 0
        share = self.ranks.size / self.ranks.sum(there.sum()).clamp(min=1)  # DDP averages gradients over ranks
        self.optimizer.zero_grad(set_to_none=True)
        outputs = []
        size = len(indices) // self.config.accumulate
        for start in range(0, len(indices), size):
            part = slice(start, start + size)
            with self._exchange_only(start + size == len(indices)):
                output = self.forward(self.objective.views(frames[part], part))
                losses = self.objective.losses(self.step, output, indices[part], part) * there[part]
                (losses.sum() * share).backward()
            outputs.append(output.detach())
            self._losses += torch.stack([losses.detach().sum(), there[part].sum()])
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.lr_at(self.step) * group.get("rate", 1.0)  # an older checkpoint has none
        self.optimizer.step()
        self.objective.end_step(indices, torch.cat(outputs))
        self.step += 1

    def prepared(self, batch: Batch) -> Tensor:
        """Returns the clips of a batch on the run's device, uint8 [b, T, 3, S, S], with its change of colors made."""
        frames = batch.frames.to(self.ranks.device, non_blocking=True).contiguous()
        if batch.colors is not None:
            COLOR_CHANGES[self.config.augmentation](frames.flatten(0, 1), batch.colors)
        return frames

    def forward(self, frames: Tensor) -> Tensor:
        """Returns the network's float32 output for clips uint8 [b, T, 3, S, S]."""
        dtype = getattr(torch, str(self.config.dtype))
        layout = torch.channels_last_3d if self.config.channels_last else torch.contiguous_format
        x = self.normalize(frames.to(self.ranks.device), dtype, layout)
        with torch.autocast(x.device.type, dtype, enabled=dtype != torch.float32):
            return self.network(x).float()

    def _exchange_only(self, last: bool) -> contextlib.AbstractContextManager[Any]:
        """Returns a context in which ranks exchange gradients only if this is the last part of a step."""
        several = self.ranks.size > 1 and not last
        return self.network.no_sync() if several else contextlib.nullcontext()  # type: ignore[operator,no-any-return]

    @torch.no_grad()
    def fill_bank(self, bank: MemoryBank) -> None:
        """Replaces the memory bank's rows by the embeddings of one pass over the videos, without learning.

        The pass has views of its own. With those of the first epoch, training would begin by meeting each row's own view.
        """
        buffers = [buffer.clone() for buffer in self.model.buffers()]
        momentum, bank.momentum = bank.momentum, 0.0
        for batch in self.batches(before_training(len(self.videos), self.config.batch_size, self.ranks)):
            bank.update(batch.indices.to(self.ranks.device), self.forward(self.prepared(batch)))
        bank.momentum = momentum
        for buffer, before in zip(self.model.buffers(), buffers, strict=True):
            buffer.copy_(before)

    def _prepared(self) -> nn.Module:
        """Returns the network as training calls it: in train mode, wrapped for several ranks, compiled if asked."""
        config = self.config
        self.model.train()
        if config.channels_last:
            to_channels_last(self.model)
        for group in self.optimizer.param_groups:  # the checkpoint may be of another device
            group["fused"] = self._on_gpu or None
        for parameter, state in self.optimizer.state.items():  # and the fused step needs both in one layout
            if (buffer := state.get("momentum_buffer")) is not None and buffer.stride() != parameter.stride():
                state["momentum_buffer"] = torch.empty_like(parameter).copy_(buffer)
        if self._on_gpu:
            torch.backends.cudnn.benchmark = True  # the shapes of a run do not change
        if config.dtype != "float32":
            self._advise()
            clips, dtype = self._clips // config.accumulate, getattr(torch, config.dtype)
            check_convolutions(self.model, clips, dtype, channels_last=config.channels_last)
        self.model.set_grad_checkpointing(config.grad_checkpointing)
        network: nn.Module = self.model
        if self.ranks.size > 1:
            network = DistributedDataParallel(
                network,
                device_ids=[self.ranks.device] if self._on_gpu else None,
                broadcast_buffers=False,  # rank 0's are saved, and sent to the others before a validation
                gradient_as_bucket_view=True,
                static_graph=config.accumulate == 1,  # with parts that do not exchange gradients, the graph is not static
            )
        if not config.compile:
            return network
        # A CUDA graph saves launches, which count in small encoders. Its next run overwrites what the last one returned, so no
        # part of a step may need an earlier part's.
        small = sum(p.numel() for p in self.model.parameters()) < _SMALL
        graphs = self._on_gpu and small and self.ranks.size == 1 and config.accumulate == 1
        return torch.compile(network, mode="reduce-overhead" if graphs else None)  # type: ignore[return-value]

    def _advise(self) -> None:
        """Says so if this processor is slower in half precision, or this GPU's cuDNN has known faults in it."""
        if not self.ranks.is_first:
            return
        message = None
        if self._on_gpu:
            message = cudnn_fault() if any(isinstance(module, nn.Conv3d) for module in self.model.modules()) else None
        elif (times := times_of_float32(getattr(torch, self.config.dtype))) > SLOWER:
            message = (
                f"on this processor, a convolution takes {times:.1f} times as long in {self.config.dtype} as in float32: "
                "--dtype float32 is faster"
            )
        if message:
            print(message, file=sys.stderr, flush=True)

    # --- videos -----------------------------------------------------------------------------------------------------------

    def look_for_videos(self) -> None:
        """Raises TooManyFailuresError if too many videos of a list are not there, or none can be read."""
        lists = [(self.videos, self.config.train_list), (self._val, self.config.val_list)]
        for videos, file in lists:
            if videos is not None and file is not None and self.step < self.config.steps:
                check_readable(videos, file, self.config.root, self.config.max_failed)

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
        device = self.ranks.device
        batches = loader(dataset, views or self.sampler, clips=self._clips, workers=config.workers, device=device)
        return copied(batches, device) if self._on_gpu else batches

    def pace(self) -> Pace:
        """Returns what will say what limits the speed of the run."""
        config = self.config
        root = "" if config.root == Path() else f" --root {config.root}"
        return Pace(
            clips=self._clips,
            workers=config.workers,
            packed=config.train_list.is_dir(),
            on_gpu=self._on_gpu,
            pack_command=f"vie data pack {config.train_list} PACK{root} --model {config.model}, and --train-list PACK",
        )

    def agree(self, batch: Batch, stop: bool, say: Callable[[str], None] = print) -> bool:
        """Records the videos that could not be read, and returns whether any rank should stop. Called before each step.

        Several GPUs agree only every tenth time, and before a step after which something is written, so that no rank's host
        waits for another's in each step.

        Raises:
            TooManyFailuresError: more videos than allowed could not be read.
        """
        self._unreported += [(self.step, index, reason) for index, reason in batch.failures]
        periods = (_AGREE_EVERY, self.config.log_every, self.config.validate_every, self.config.save_every)
        due = self.step + 1 == self.config.steps or any((self.step + 1) % period == 0 for period in periods)
        if self._on_gpu and self.ranks.size > 1 and not due:
            return False
        failures, stopping = self.ranks.sum(torch.tensor([len(self._unreported), int(stop)], device="cpu")).tolist()
        if failures:
            found = [one for each in self.ranks.gather_objects(self._unreported) for one in each]
            self._unreported = []
            for step, index, reason in sorted(found, key=lambda one: one[0]):
                if index not in self._failed:
                    self._failed[index] = {"step": step, "path": str(self.videos.paths[index]), "reason": reason}
                    say(f"left out: {reason}")
            if self.ranks.is_first:
                with replacing(self.config.out / FAILED) as file:
                    file.write_text("".join(json.dumps(line) + "\n" for line in self._failed.values()))
            failed, tried = len(self._failed), self._tried(self.step + 1)
            certain = failed > self.config.max_failed * len(self.videos)  # however well the rest of the list is
            if certain or failed >= tried >= _NONE_READ:
                self.check_failures(self.step + 1)
        return bool(stopping)

    def check_failures(self, steps: int) -> None:
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

    # --- metrics and validation -------------------------------------------------------------------------------------------

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

    # --- checkpoints ------------------------------------------------------------------------------------------------------

    def write_settings(self) -> None:
        """Writes config.json to the run's folder."""
        if self.ranks.is_first:
            with replacing(self.config.out / CONFIG) as path:
                path.write_text(json.dumps(self.config.to_dict(), indent=2) + "\n")

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

    def _restore(self, checkpoint: Checkpoint) -> None:
        """Continues from a checkpoint of this run. Raises ValueError if the settings or the list are others now."""
        state, config = checkpoint.state(), self.config
        before = TrainConfig.from_dict(state["config"])
        then, now = before.to_dict(), config.to_dict()
        given = [name for name in ("weights", "resume") if now[name] is not None]
        fixed = [*FIXED, *(["steps"] if config.schedule == "cosine" else []), *given]
        if differing := [f"{key} was {then[key]!r}, is {now[key]!r}" for key in fixed if then[key] != now[key]]:
            raise ValueError(
                f"the run in {config.out} was started with other settings ({'; '.join(differing)}): choose another folder, or "
                "use the same settings"
            )
        if state["list"] != self._list_hash:
            raise ValueError(
                f"{config.train_list} is not the list that the run in {config.out} started with, and each row of the memory "
                "bank belongs to one video of that list. Use the same list, or choose another folder"
            )
        self.load_state_dict(state, checkpoint.parts())
        validation = ("val_list", "root", "val_clips", "val_placement", "neighbors")
        if self.step < config.steps or config.val_list is None:
            return
        if others := [name for name in validation if then[name] != now[name]]:  # it does not validate again
            raise ValueError(
                f"the run in {config.out} is finished, and its validation had another {', '.join(others)}: choose another "
                "folder, or export its weights and evaluate them"
            )


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
