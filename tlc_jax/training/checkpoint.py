"""Checkpoints of a run: parameters, optimizer state and a small record, as separate Orbax items.

Parameters load alone (`restore_params`), which is all that evaluation and compression need.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import absl.logging
import jax
import orbax.checkpoint as ocp

from tlc_jax.core.errors import UserError
from tlc_jax.core.tree import Params
from tlc_jax.training.state import TrainState

absl.logging.set_verbosity(absl.logging.ERROR)  # Orbax warns of the options that it is given

ITEMS = ("params", "optimizer", "meta")


class Checkpoints:
    """Saves in the background, keeps the newest `keep`; a context manager that waits on leaving."""

    def __init__(self, folder: Path, keep: int):
        self._folder = folder
        self._manager = ocp.CheckpointManager(
            folder.absolute(),
            item_names=ITEMS,
            options=ocp.CheckpointManagerOptions(
                max_to_keep=keep,
                cleanup_tmp_directories=True,
                # one rename instead of many removals: a killed process leaves no half-deleted step
                todelete_subdir="deleted",
            ),
        )

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, *_: object) -> None:
        self._manager.close()

    @property
    def latest_step(self) -> int | None:
        return self._manager.latest_step()

    def save(self, step: int, state: TrainState, meta: dict[str, Any]) -> None:
        """Copies the state and writes it in the background; `meta` is JSON."""
        self._manager.save(
            step,
            args=ocp.args.Composite(
                params=ocp.args.StandardSave(state.params),  # type: ignore[call-arg]
                optimizer=ocp.args.StandardSave(state.optimizer),  # type: ignore[call-arg]
                meta=ocp.args.JsonSave(meta),  # type: ignore[call-arg]
            ),
            force=True,
        )

    def wait(self) -> None:
        """Until everything is on disk; raises what went wrong."""
        self._manager.wait_until_finished()

    def restore(self, step: int, like: TrainState) -> tuple[TrainState, dict[str, Any]]:
        """The state saved at `step`, with the shapes, types and shardings of `like`."""
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        args = ocp.args.Composite(
            params=ocp.args.StandardRestore(abstract.params),  # type: ignore[call-arg]
            optimizer=ocp.args.StandardRestore(abstract.optimizer),  # type: ignore[call-arg]
            meta=ocp.args.JsonRestore(),
        )
        try:
            found = self._manager.restore(step, args=args)
        except Exception as error:  # whatever Orbax and its stores raise at a file that is not as it was
            older = [str(other) for other in self._manager.all_steps() if other < step]
            remedy = f"to go on from step {older[-1]}" if older else "to start again, there is no older one"
            where = self._folder / str(step)
            raise UserError(f"the checkpoint {where} is damaged: remove that folder {remedy}") from error
        count = jax.device_put(jax.numpy.int32(step), like.step.sharding)
        return TrainState(count, found["params"], found["optimizer"]), found["meta"]


def restore_params(folder: Path, like: Params) -> tuple[Params, int]:
    """The newest parameters below `folder`, with the shapes and shardings of `like`, and their step."""
    options = ocp.CheckpointManagerOptions(read_only=True)  # another process may be writing there
    with ocp.CheckpointManager(folder.absolute(), item_names=ITEMS, options=options) as manager:
        step = manager.latest_step()
        if step is None:
            raise UserError(f"{folder} holds no checkpoint: give the folder of a run that has saved one")
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        args = ocp.args.Composite(params=ocp.args.StandardRestore(abstract))  # type: ignore[call-arg]
        return manager.restore(step, args=args)["params"], step


def saved_data_identity(folder: Path) -> str | None:
    """What the newest checkpoint below `folder` was trained on; None if there is none."""
    if not folder.is_dir():
        return None
    options = ocp.CheckpointManagerOptions(read_only=True)
    with ocp.CheckpointManager(folder.absolute(), item_names=ITEMS, options=options) as manager:
        step = manager.latest_step()
        if step is None:
            return None
        return manager.restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore()))["meta"]["data"]
