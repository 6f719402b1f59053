"""What training asks of the object that saves its checkpoints (runs/saving.py)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from tlc_jax.training.state import TrainState


class Saver(Protocol):
    """Saves in the background. All processes call the same methods in the same order."""

    newest: int | None
    """The last step that was saved or restored."""
    longest_save: float
    """Seconds until a save was whole, of the slowest one."""

    def reserve(self, state: TrainState) -> None: ...
    def save(
        self,
        step: int,
        state: TrainState,
        meta: dict[str, Any],
        marks: tuple[str, ...] = (),
        before: Callable[[], None] = lambda: None,
    ) -> None: ...
    def wait(self) -> None: ...
    def failed(self) -> bool: ...
