"""Saving checkpoints that cannot lie: parameters, optimizer state and a small record, written by Orbax in the
background, looked at, and sealed.

checkpoints/<step>/{params,optimizer,meta}/   what Orbax wrote
checkpoints/<step>/manifest.json              size and SHA-256 of each file: the step is whole
checkpoints/damaged/<step>/                   refused and put aside, for somebody to look at
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import shutil
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import jax
import orbax.checkpoint as ocp

from tlc_jax.core.errors import SaveFailed, one_line
from tlc_jax.parallel import hosts
from tlc_jax.runs.checkpoint import (
    ITEMS,
    Restored,
    is_step,
    read_record,
    read_step,
    restore_state,
    whole_steps,
)
from tlc_jax.runs.plain_path import plain_path
from tlc_jax.runs.snapshot import Snapshot
from tlc_jax.runs.stored import check_stored
from tlc_jax.runs.worker import Worker
from tlc_jax.storage.paths import (
    AnyPath,
    absolute,
    copy_file,
    is_remote,
    make_folder,
    move_folder,
    remove_folder,
    write_text,
)
from tlc_jax.storage.sealed import MANIFEST, Damaged, is_sealed, seal
from tlc_jax.training.masked import MaskedState
from tlc_jax.training.state import TrainState

_RETIRED = "retired.json"  # the manifest of a step whose files are being removed
_TIMES = ("training_seconds", "total_seconds")
_TEMPORARY = ".orbax-checkpoint-tmp"


class Checkpoints:
    """Saves in the background, keeps the newest `keep` and those with marks. A context manager."""

    def __init__(self, folder: AnyPath, keep: int):
        self._folder, self._keep = absolute(folder), keep
        hosts.leader.decide(lambda: _begin(self._folder))
        self._opened = contextlib.ExitStack()
        self._plain = self._opened.enter_context(plain_path(self._folder))
        self._orbax = _new_orbax()
        self._thread = Worker("checkpoints")
        self._pending: tuple[int, Future[None]] | None = None
        self._snapshot = Snapshot()
        self.newest: int | None = None  # the last step that was saved or restored here
        self.longest_save = 0.0  # seconds, until it was whole

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown()
        self._orbax.close()
        self._opened.close()

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
        hosts.leader.decide(lambda: _check_room(self._folder, step, state))
        copied = self._snapshot.take(state)
        args = ocp.args.Composite(
            params=ocp.args.StandardSave(copied.params),  # type: ignore[call-arg]
            optimizer=ocp.args.StandardSave(copied.optimizer),  # type: ignore[call-arg]
            meta=ocp.args.JsonSave(meta),  # type: ignore[call-arg]
        )
        orbax, target = self._orbax, self._plain / str(step)
        written = self._thread.submit(lambda: orbax.save(target, args=args))
        # the next step takes this memory, if it is not a copy; and among several processes nothing may come
        # between what Orbax and the step send
        if copied is state or hosts.count() > 1:
            concurrent.futures.wait([written])
        masked = isinstance(state.optimizer, MaskedState)
        times = {name: meta.get(name) for name in _TIMES}
        about = {"step": step, "marks": list(marks), "masked": masked, **times}
        like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), copied)
        self._pending = step, self._thread.submit(lambda: self._finish(written, like, about, began, before))

    def _finish(
        self,
        written: Future[Any],
        like: TrainState,
        about: dict[str, Any],
        began: float,
        before: Callable[[], None],
    ) -> None:
        written.result()
        self._orbax.wait_until_finished()
        step = about["step"]
        if hosts.is_first():
            _check_written(self._plain / str(step), like)
            before()
            seal(self._folder / str(step), about)
            self.longest_save = max(self.longest_save, time.monotonic() - began)
            self._retire_old()
        self.newest = step

    def _retire_old(self) -> None:
        for old in whole_steps(self._folder)[: -self._keep]:
            path = self._folder / str(old)
            with contextlib.suppress(Damaged):  # whether it has marks nobody knows: it stays
                if not read_step(path)["marks"]:
                    _retire(path)

    def wait(self) -> None:
        """Until the last save is whole on disk; SaveFailed, in every process, if it cannot be."""
        if self._pending is None:
            return
        (step, future), self._pending = self._pending, None
        error = future.exception()  # whatever Orbax, its stores and the file system raise
        why = next(filter(None, hosts.leader.gather(error and one_line(error))), None)
        if why is not None:
            raise self._failure(step, why.replace(str(self._plain), str(self._folder))) from error

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
            self.newest = found.step
            hosts.leader.decide(lambda: _put_newer_aside(self._folder, found.step))
        return found


def _begin(folder: AnyPath) -> None:
    make_folder(folder)
    if is_remote(folder):  # a bucket has no empty folder, and a run without this one is damaged
        write_text(folder / "begun", "")
    _sweep(folder)


def _new_orbax() -> ocp.AsyncCheckpointer:
    # folders are made before anything waits for them: where one cannot be made, nothing is left that waits
    options = ocp.options.AsyncOptions(create_directories_asynchronously=False)
    return ocp.AsyncCheckpointer(ocp.CompositeCheckpointHandler(*ITEMS), async_options=options)


def _check_written(path: AnyPath, like: TrainState) -> None:
    """SaveFailed if what Orbax says it has saved could not be restored."""
    try:
        check_stored(path / "params", like.params)
        check_stored(path / "optimizer", like.optimizer)
        read_record(path)
    except (ValueError, Damaged) as error:
        raise SaveFailed(f"what was written could not be restored: {one_line(error)}") from error


def _check_room(folder: AnyPath, step: int, state: TrainState) -> None:
    if is_remote(folder):
        return
    need, free = sum(x.nbytes for x in jax.tree.leaves(state)), _free(folder)
    if free < need:
        raise SaveFailed(
            f"saving step {step:,} needs up to {need:,} bytes, but {free:,} are free in {folder}: make room"
        )


def _free(folder: AnyPath) -> int:
    return shutil.disk_usage(folder).free


def _sweep(folder: AnyPath) -> None:
    """Removes what a killed process left: temporary folders, half-removed steps. A step that was never
    sealed is put aside."""
    for path in folder.iterdir():
        if _TEMPORARY in path.name or (path / _RETIRED).exists():
            remove_folder(path, last=_RETIRED)
        elif is_step(path.name) and not is_sealed(path):
            _put_aside(path)


def _put_newer_aside(folder: AnyPath, step: int) -> None:
    for other in whole_steps(folder):
        if other > step:
            _put_aside(folder / str(other))


def _put_aside(path: AnyPath) -> None:
    move_folder(path, path.parent / "damaged" / path.name)


def _retire(path: AnyPath) -> None:
    """Removes a step; from its first moment on, nobody takes it for a whole one."""
    copy_file(path / MANIFEST, path / _RETIRED)
    (path / MANIFEST).unlink()
    remove_folder(path, last=_RETIRED)
