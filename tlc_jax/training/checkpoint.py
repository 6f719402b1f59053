"""Checkpoints that cannot lie: parameters, optimizer state and a small record, saved by Orbax and sealed.

A step counts only once it is sealed (`core/sealed.py`): Orbax alone restores a flipped bit silently, and
lists steps whose files are partly gone. Parameters load alone, which is all that evaluation needs.

checkpoints/<step>/{params,optimizer,meta}/   what Orbax wrote
checkpoints/<step>/manifest.json              size and SHA-256 of each file: the step is whole
checkpoints/damaged/<step>/                   refused and put aside, for somebody to look at
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import shutil
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import absl.logging
import jax
import numpy as np
import orbax.checkpoint as ocp

from tlc_jax.core.errors import SaveFailed, UserError, one_line
from tlc_jax.core.place import (
    Place,
    absolute,
    copy_file,
    is_remote,
    make_folder,
    move_folder,
    remove_folder,
    write_text,
)
from tlc_jax.core.sealed import MANIFEST, Damaged, is_sealed, open_sealed, read_manifest, seal
from tlc_jax.core.tree import Params
from tlc_jax.parallel import hosts
from tlc_jax.training.masked import MaskedState
from tlc_jax.training.snapshot import Snapshot
from tlc_jax.training.state import TrainState

absl.logging.set_verbosity(absl.logging.ERROR)  # Orbax warns of the options that it is given

ITEMS = ("params", "optimizer", "meta")
_RETIRED = "retired.json"  # the manifest of a step whose files are being removed
_TIMES = ("training_seconds", "total_seconds")
_TEMPORARY = ".orbax-checkpoint-tmp"


@dataclass(frozen=True)
class Restored:
    """A whole checkpoint; `refused` names what was wrong with newer ones."""

    step: int
    state: TrainState
    meta: dict[str, Any]
    refused: list[str]


class Checkpoints:
    """Saves in the background, keeps the newest `keep` and those with marks. A context manager."""

    def __init__(self, folder: Place, keep: int):
        self._folder, self._keep = absolute(folder), keep
        hosts.first(lambda: _begin(self._folder))
        self._orbax = _new_orbax()
        self._thread = ThreadPoolExecutor(1, "checkpoints")
        self._pending: tuple[int, Future[None]] | None = None
        self._snapshot = Snapshot()
        self.longest_save = 0.0  # seconds, until it was whole

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown()
        self._orbax.close()

    def reserve(self, state: TrainState) -> None:
        """Touches the memory that saves will need, before anybody's clock runs."""
        self._snapshot.take(state)

    def save(
        self,
        step: int,
        state: TrainState,
        meta: dict[str, Any],
        marks: tuple[str, ...] = (),
        before: Callable[[], None] = lambda: None,
    ) -> None:
        """Copies the state and writes it in the background; `meta` is JSON. The step counts only after
        `before` was called, there too.

        Raises SaveFailed if the save before this one failed, or if there is no room for this one.
        """
        self.wait()
        began = time.monotonic()
        hosts.first(lambda: _check_room(self._folder, step, state))
        copied = self._snapshot.take(state)
        args = ocp.args.Composite(
            params=ocp.args.StandardSave(copied.params),  # type: ignore[call-arg]
            optimizer=ocp.args.StandardSave(copied.optimizer),  # type: ignore[call-arg]
            meta=ocp.args.JsonSave(meta),  # type: ignore[call-arg]
        )
        written = self._thread.submit(self._orbax.save, self._folder / str(step), args=args)
        # the next step takes this memory, if it is not a copy; and among several processes nothing may come
        # between what Orbax and the step send
        if copied is state or hosts.count() > 1:
            concurrent.futures.wait([written])
        masked = isinstance(state.optimizer, MaskedState)
        times = {name: meta.get(name) for name in _TIMES}
        about = {"step": step, "marks": list(marks), "masked": masked, **times}
        self._pending = step, self._thread.submit(self._finish, written, step, about, began, before)

    def _finish(
        self,
        written: Future[Any],
        step: int,
        about: dict[str, Any],
        began: float,
        before: Callable[[], None],
    ) -> None:
        written.result()
        self._orbax.wait_until_finished()
        if not hosts.is_first():
            return
        before()
        seal(self._folder / str(step), about)
        self.longest_save = max(self.longest_save, time.monotonic() - began)
        steps = whole_steps(self._folder)
        for old in steps[: -self._keep]:
            with contextlib.suppress(Damaged):  # whether it has marks nobody knows: it stays
                if not read_manifest(self._folder / str(old))["marks"]:
                    _retire(self._folder / str(old))

    def wait(self) -> None:
        """Until the last save is whole on disk; SaveFailed, in every process, if it cannot be."""
        if self._pending is None:
            return
        (step, future), self._pending = self._pending, None
        error = future.exception()  # whatever Orbax, its stores and the file system raise
        why = next(filter(None, hosts.all_say(error and one_line(error))), None)
        if why is not None:
            raise self._failure(step, why) from error

    def failed(self) -> bool:
        """Whether the save in the background has ended badly; `wait` tells how."""
        return self._pending is not None and self._pending[1].done() and bool(self._pending[1].exception())

    def _failure(self, step: int, why: str) -> SaveFailed:
        with contextlib.suppress(Exception):  # it may raise the same again
            self._orbax.close()
        self._orbax = _new_orbax()  # the old one would fail the next save for the errors of this one
        whole = whole_steps(self._folder)
        last = (
            f"the last whole checkpoint is of step {whole[-1]:,}" if whole else "there is no checkpoint yet"
        )
        free = "" if is_remote(self._folder) else f"; {_free(self._folder):,} bytes are free there"
        return SaveFailed(f"saving step {step:,} to {self._folder} failed ({why}){free}; {last}")

    def restore(self, like: TrainState) -> Restored | None:
        """The newest whole checkpoint, with shapes, types and shardings of `like`; None if none was saved.

        Damaged newer ones are put aside. UserError if there are only damaged ones.
        """
        found = restore_state(self._folder, like)
        if found is not None:
            hosts.first(lambda: _put_newer_aside(self._folder, found.step))
        return found


def _begin(folder: Place) -> None:
    make_folder(folder)
    if is_remote(folder):  # a bucket has no empty folder, and a run without this one is damaged
        write_text(folder / "begun", "")
    _sweep(folder)


def _new_orbax() -> ocp.AsyncCheckpointer:
    return ocp.AsyncCheckpointer(ocp.CompositeCheckpointHandler(*ITEMS))


def whole_steps(folder: Place) -> list[int]:
    """The sealed steps below `folder`, the oldest first."""
    if not folder.is_dir():
        return []
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit() and is_sealed(path))


def marked_steps(folder: Place, mark: str) -> list[int]:
    """The whole steps below `folder` that were kept for a mark: one, or none."""
    return [step for step in whole_steps(folder) if mark in _marks(folder, step)]


def restore_state(folder: Place, like: TrainState, mark: str | None = None) -> Restored | None:
    """The newest whole checkpoint below `folder`, or the one of a mark, with the shapes, types and shardings
    of `like`; None if there is none. Changes nothing there."""
    abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
    args = ocp.args.Composite(
        params=ocp.args.StandardRestore(abstract.params),  # type: ignore[call-arg]
        optimizer=ocp.args.StandardRestore(abstract.optimizer),  # type: ignore[call-arg]
        meta=ocp.args.JsonRestore(),
    )
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler(*ITEMS)) as orbax:
        found = _newest(folder, "", lambda path: orbax.restore(path, args=args), mark)
    if found is None:
        return None
    step, values, refused = found
    count = jax.device_put(jax.numpy.int32(step), like.step.sharding)
    return Restored(step, TrainState(count, values["params"], values["optimizer"]), values["meta"], refused)


def restore_params(
    folder: Place,
    like: Params,
    warn: Callable[[str], None],
    mark: str | None = None,
    steps: list[int] | None = None,
) -> tuple[Params, int]:
    """The newest whole parameters below `folder`, or those of a mark, or of one of `steps`, like `like`, and
    their step.

    Only the files of the parameters need to be there. `warn` is told of newer ones that are damaged.
    """
    abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
    args = ocp.args.Composite(params=ocp.args.StandardRestore(abstract))  # type: ignore[call-arg]
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler(*ITEMS)) as orbax:
        found = _newest(folder, "params/", lambda path: orbax.restore(path, args=args)["params"], mark, steps)
    if found is None:
        if mark is not None:
            there = sorted({name for step in whole_steps(folder) for name in _marks(folder, step)})
            raise UserError(f"{folder} holds no mark {mark}: it has {', '.join(there) or 'none'}")
        raise UserError(f"{folder} holds no checkpoint: give the folder of a run that has saved one")
    step, params, refused = found
    for text in refused:
        warn(f"{text}: refused, step {step:,} is used")
    return params, step


def restore_masks(folder: Place, step: int) -> dict[str, np.ndarray]:
    """Of a step that was checked: what a masked optimizer kept at zero, by the paths of the parameters."""
    path = absolute(folder) / str(step)
    if not read_manifest(path).get("masked"):
        return {}
    args = ocp.args.Composite(optimizer=ocp.args.StandardRestore())
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler(*ITEMS)) as orbax:
        found = orbax.restore(path, args=args)["optimizer"]["masks"]
    return {path: np.asarray(mask) for path, mask in found.items()}


def saved_data_identity(folder: Place) -> str | None:
    """What the newest checkpoint below `folder` was trained on; None if there is none."""
    step, _ = _choose(folder, "meta/", None, None)
    return None if step is None else json.loads((folder / str(step) / "meta/metadata").read_text())["data"]


def _marks(folder: Place, step: int) -> list[str]:
    try:
        return read_manifest(folder / str(step))["marks"]
    except Damaged:  # refused where it is wanted
        return []


def _newest(
    folder: Place,
    part: str,
    read: Callable[[Place], Any],
    mark: str | None = None,
    steps: list[int] | None = None,
) -> tuple[int, Any, list[str]] | None:
    """(step, what `read` gives, what was wrong with newer steps) of the newest step whose `part` is whole."""
    step, refused = hosts.first(lambda: _choose(folder, part, mark, steps))
    if step is None:
        return None
    path = absolute(folder) / str(step)
    try:
        return step, read(path), refused
    except (KeyError, ValueError) as error:  # Orbax's words for another tree and for other shapes
        raise UserError(f"the checkpoint {path} is of another model: {error}") from error


def _choose(
    folder: Place, part: str, mark: str | None, steps: list[int] | None
) -> tuple[int | None, list[str]]:
    """The newest step whose `part` is whole, and what was wrong with newer ones."""
    refused: list[str] = []
    if steps is None:
        steps = whole_steps(folder) if mark is None else marked_steps(folder, mark)
    for step in reversed(steps):
        path = absolute(folder) / str(step)
        try:
            _check_step(open_sealed(path, part), path)
        except Damaged as damage:
            refused.append(f"the checkpoint of step {step:,} is damaged: {damage}")
            continue
        return step, refused
    if refused:
        raise UserError(
            f"no checkpoint in {folder} is whole ({'; '.join(refused)}): put a copy back, or begin "
            "again in a new folder"
        )
    return None, refused


def _check_step(manifest: dict[str, Any], path: Place) -> None:
    """Damaged if the folder has another step's name: its state would be taken for that step's."""
    if manifest["step"] != int(path.name):
        raise Damaged(path, f"holds step {manifest['step']:,}")


def _check_room(folder: Place, step: int, state: TrainState) -> None:
    if is_remote(folder):
        return
    need, free = sum(x.nbytes for x in jax.tree.leaves(state)), _free(folder)
    if free < need:
        raise SaveFailed(
            f"saving step {step:,} needs up to {need:,} bytes, but {free:,} are free in {folder}: make room"
        )


def _free(folder: Place) -> int:
    return shutil.disk_usage(folder).free


def _sweep(folder: Place) -> None:
    """Removes what a killed process left: temporary folders, half-removed steps. A step that was never
    sealed is put aside."""
    for path in folder.iterdir():
        if _TEMPORARY in path.name or (path / _RETIRED).exists():
            remove_folder(path, last=_RETIRED)
        elif path.name.isdigit() and not is_sealed(path):
            _put_aside(path)


def _put_newer_aside(folder: Place, step: int) -> None:
    for other in whole_steps(folder):
        if other > step:
            _put_aside(folder / str(other))


def _put_aside(path: Place) -> None:
    move_folder(path, path.parent / "damaged" / path.name)


def _retire(path: Place) -> None:
    """Removes a step; from its first moment on, nobody takes it for a whole one."""
    copy_file(path / MANIFEST, path / _RETIRED)
    (path / MANIFEST).unlink()
    remove_folder(path, last=_RETIRED)
