"""Saving checkpoints: parameters, optimizer state and a small record, written by Orbax in the background,
checked, and sealed.

checkpoints/<step>/{params,optimizer,meta}/   what Orbax wrote
checkpoints/<step>/manifest.json              size and SHA-256 of each file: the step is whole
checkpoints/damaged/<step>/                   refused, and put aside for inspection
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import shutil
import time
from collections.abc import Callable, Collection
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

import jax

from tlc_jax.config.marks import BEST
from tlc_jax.core.errors import SaveFailed, one_line
from tlc_jax.parallel import hosts
from tlc_jax.parallel.hosts import leader
from tlc_jax.runs.checkpoint import (
    Restored,
    is_step,
    marks_of,
    read_record,
    read_step,
    restore_state,
    whole_steps,
)
from tlc_jax.runs.plain_path import plain_path
from tlc_jax.runs.snapshot import Snapshot
from tlc_jax.runs.stored import check_stored
from tlc_jax.runs.worker import Worker
from tlc_jax.storage.lock import locked
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
from tlc_jax.storage.run_directory import RunDir
from tlc_jax.storage.sealed import MANIFEST, Damaged, is_sealed, seal
from tlc_jax.training.masked import masks_of
from tlc_jax.training.state import TrainState

if TYPE_CHECKING:
    from tlc_jax.runs.orbax_items import Writer

_RETIRED = "retired.json"  # the manifest of a step whose files are being removed
_TIMES = ("training_seconds", "total_seconds")
_TEMPORARY = ".orbax-checkpoint-tmp"


class Checkpoints:
    """Saves in the background; keeps the newest `keep` steps, those with marks, and the newest of those that
    were the best. A context manager."""

    def __init__(self, folder: AnyPath, keep: int):
        self._folder, self._keep = absolute(folder), keep
        leader.decide(lambda: _begin(self._folder))
        self._opened = contextlib.ExitStack()
        self._plain = self._opened.enter_context(plain_path(self._folder))
        self._thread = Worker("checkpoints")
        self._writer = self._new_writer()
        self._pending: tuple[int, Future[None]] | None = None
        self._snapshot = Snapshot()
        self.newest: int | None = None
        self.longest_save = 0.0

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown()
        self._writer.result().close()
        self._opened.close()

    def reserve(self, state: TrainState) -> None:
        """Touch the memory that saves will need, before a clock runs."""
        self._snapshot.take(state)

    def save(
        self,
        step: int,
        state: TrainState,
        meta: dict[str, Any],
        marks: tuple[str, ...] = (),
        before: Callable[[], None] = lambda: None,
    ) -> None:
        """Copy the state and write it in the background, with `meta` (JSON). `before` is called there, before
        the step is sealed. SaveFailed where the save before this one failed, or there is no room."""
        self.wait()
        began = time.monotonic()
        leader.decide(lambda: _check_room(self._folder, step, state))
        copied = self._snapshot.take(state)
        target = self._plain / str(step)
        written = self._thread.submit(
            lambda: self._writer.result().begin(target, copied.params, copied.optimizer, meta)
        )
        # the next step reuses this memory, if it is not a copy; and what Orbax and the step send between
        # several processes must not mix
        if copied is state or hosts.count() > 1:
            concurrent.futures.wait([written])
        masked = bool(masks_of(state.optimizer))
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
        self._writer.result().finish()
        step = about["step"]
        if hosts.is_first():
            _check_written(self._plain / str(step), like)
            before()
            seal(self._folder / str(step), about)
            self.longest_save = max(self.longest_save, time.monotonic() - began)
            self._retire_old()
        self.newest = step

    def _retire_old(self) -> None:
        best = whole_steps(self._folder, BEST)[-1:]
        for old in whole_steps(self._folder)[: -self._keep]:
            path = self._folder / str(old)
            with contextlib.suppress(Damaged):  # it may have marks: it stays
                if set(read_step(path)["marks"]) <= {BEST} and old not in best:
                    _retire(path)

    def wait(self) -> None:
        """Wait until the last save is whole; SaveFailed, in every process, where it failed in one."""
        if self._pending is None:
            return
        (step, future), self._pending = self._pending, None
        error = future.exception()  # whatever Orbax, its stores and the file system raise
        why = next(filter(None, leader.gather(error and one_line(error))), None)
        if why is not None:
            raise self._failure(step, why.replace(str(self._plain), str(self._folder))) from error

    def failed(self) -> bool:
        """Whether the save in the background has failed; `wait` raises why."""
        return self._pending is not None and self._pending[1].done() and bool(self._pending[1].exception())

    def _failure(self, step: int, why: str) -> SaveFailed:
        with contextlib.suppress(Exception):  # it may raise the same error
            self._writer.result().close()
        self._writer = self._new_writer()  # the old one would raise the errors of this save at the next one
        whole = whole_steps(self._folder)
        last = (
            f"the last whole checkpoint is of step {whole[-1]:,}" if whole else "there is no checkpoint yet"
        )
        free = "" if is_remote(self._folder) else f"; {_free(self._folder):,} bytes are free there"
        return SaveFailed(f"saving step {step:,} to {self._folder} failed ({why}){free}; {last}")

    def _new_writer(self) -> Future[Writer]:
        writer = self._thread.submit(_open_writer)  # beside the compilation of the first step
        if hosts.count() > 1:  # what Orbax and the step send between several processes must not mix
            concurrent.futures.wait([writer])
        return writer

    def restore(self, like: TrainState) -> Restored | None:
        """The newest whole checkpoint, with shapes, types and shardings of `like`; None if none was saved.

        Damaged newer ones are put aside. UserError if there are only damaged ones.
        """
        restored = restore_state(self._folder, like)
        if restored is not None:
            self.newest = restored.step
            leader.decide(lambda: _put_newer_aside(self._folder, restored.step))
        return restored


def remove_checkpoints(rundir: RunDir, marks: Collection[str] | None) -> int:
    """Remove all checkpoints of a finished run, or but for the newest those that are kept for these marks
    alone, and what a killed process has left of removed ones. Returns their number. InUse while another
    process has the run."""
    with locked(rundir.root, wait=False):
        folder = absolute(rundir.checkpoints)
        if not folder.is_dir():
            return 0
        _sweep(folder)
        steps = whole_steps(folder)
        if marks is not None:
            kept_for = {step: marks_of(folder, step) for step in steps[:-1]}
            steps = [step for step, names in kept_for.items() if names and set(names) <= set(marks)]
        for step in steps:
            _retire(folder / str(step))
        return len(steps)


def _begin(folder: AnyPath) -> None:
    make_folder(folder)
    if is_remote(folder):  # a bucket has no empty folders, and a run without this folder is damaged
        write_text(folder / "begun", "")
    _sweep(folder)


def _open_writer() -> Writer:
    from tlc_jax.runs.orbax_items import Writer

    return Writer()


def _check_written(path: AnyPath, like: TrainState) -> None:
    """SaveFailed where what Orbax has written could not be restored."""
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
    """Remove what a killed process left: temporary folders and half-removed steps. A step that was never
    sealed is put aside."""
    for path in folder.iterdir():
        if _TEMPORARY in path.name or (path / _RETIRED).exists():
            remove_folder(path, last=_RETIRED)
        elif is_step(path.name) and not is_sealed(path):
            _put_aside(path)


def _put_newer_aside(folder: AnyPath, step: int) -> None:
    for newer in whole_steps(folder):
        if newer > step:
            _put_aside(folder / str(newer))


def _put_aside(path: AnyPath) -> None:
    move_folder(path, path.parent / "damaged" / path.name)


def _retire(path: AnyPath) -> None:
    """Remove a step; from the first moment on it does not count as whole."""
    copy_file(path / MANIFEST, path / _RETIRED)
    (path / MANIFEST).unlink()
    remove_folder(path, last=_RETIRED)
