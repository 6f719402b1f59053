"""What training asks of whoever keeps its checkpoints (runs/saving.py)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from tlc_jax.training.state import TrainState


class Saver(Protocol):
    """Saves in the background, one save at a time. All processes call the same methods in the same order."""

    newest: int | None
    """The last step that was saved or restored."""
    longest_save: float
    """Seconds from the beginning of a save until it was whole, of the slowest one."""

    def reserve(self, state: TrainState) -> None:
        """Touch the memory that saves will need, before a clock runs."""
        ...

    def save(
        self,
        step: int,
        state: TrainState,
        meta: dict[str, Any],
        marks: tuple[str, ...] = (),
        before: Callable[[], None] = lambda: None,
    ) -> None:
        """Begin a save, to be kept for `marks`, of state and `meta` (JSON); `before` is called just before it
        counts. SaveFailed where the save before this one failed, or this one cannot begin."""
        ...

    def wait(self) -> None:
        """Wait until the last save is whole; SaveFailed, in every process, if it failed."""
        ...

    def failed(self) -> bool:
        """Whether the save in the background has failed; `wait` raises why."""
        ...
