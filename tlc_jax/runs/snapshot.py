"""A copy of the state to be saved in the background, made before the next step reuses the state's memory.

On an accelerator Orbax has copied the state to the host when its `save` returns. On a CPU it holds the
arrays themselves until the last byte is written, and the next step, which takes over their memory, waits for
seconds. There the state is copied first, into memory that all saves share: touching new memory takes many
times longer than the copy.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from tlc_jax.training.state import TrainState


class Snapshot:
    """Copies states of one shape; each `take` overwrites the copy before it."""

    def __init__(self) -> None:
        self._spare: TrainState | None = None
        # copies into the memory of the first argument
        self._copy = jax.jit(
            lambda spare, state: jax.tree.map(jnp.copy, state), donate_argnums=0, keep_unused=True
        )

    def take(self, state: TrainState) -> TrainState:
        """The state, or a copy where a save would hold the state's own memory."""
        if jax.default_backend() != "cpu":
            return state
        if self._spare is None:
            self._spare = jax.jit(lambda state: jax.tree.map(jnp.copy, state))(state)
        else:
            self._spare = self._copy(self._spare, state)
        return jax.block_until_ready(self._spare)
