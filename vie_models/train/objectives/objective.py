"""The interface between the training loop and its objectives."""

from __future__ import annotations

from typing import Any

from torch import Tensor


class Objective:
    """Base class of objectives. The training loop calls its methods. They are collective: all ranks call them."""

    def begin_step(self, step: int, batch_size: int) -> None:
        """Prepares a step of `batch_size` clips, summed over all ranks."""

    def views(self, frames: Tensor, part: slice) -> Tensor:
        """Returns the network's input for clips uint8 [b, T, 3, S, S], which are the `part` of this rank's batch."""
        return frames

    def losses(self, step: int, output: Tensor, indices: Tensor, part: slice) -> Tensor:
        """Returns the loss of each clip, [b].

        Args:
            step: number of the step, from 0.
            output: output of the network, [b, ...].
            indices: indices of the clips' videos, [b]. Negative for a clip that could not be read; its loss is ignored.
            part: position of these clips in this rank's batch.
        """
        raise NotImplementedError

    def end_step(self, indices: Tensor, output: Tensor) -> None:
        """Finishes a step. `output` [b, ...] is what the network returned before the weights changed."""

    def state_dict(self) -> dict[str, Any]:
        """Returns the state that a checkpoint needs, the same on all ranks."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores a `state_dict`."""
