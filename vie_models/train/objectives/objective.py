"""What a training loop asks of an objective."""

from __future__ import annotations

from typing import Any

from torch import Tensor


class Objective:
    """What a training loop asks of an objective. Methods are collective: all ranks call them."""

    def begin_step(self, step: int, batch_size: int) -> None:
        """Before a step of `batch_size` clips, of all ranks."""

    def views(self, frames: Tensor, part: slice) -> Tensor:
        """What the network is to see of clips uint8 [b, T, 3, S, S], which are a `part` of this rank's batch."""
        return frames

    def losses(self, step: int, output: Tensor, indices: Tensor, part: slice) -> Tensor:
        """The loss of each clip, [b].

        Args:
            step: which step it is.
            output: the network's, [b, ...].
            indices: of the clips' videos, [b]; negative for clips that are not there, whose loss means nothing.
            part: where the clips lie in this rank's batch, of which they may be a part.
        """
        raise NotImplementedError

    def end_step(self, indices: Tensor, output: Tensor) -> None:
        """After a step: `output` [b, ...] is the network's from before the weights changed."""

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint must have to go on, the same on all ranks."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse."""
