"""Reserve a new folder before the work whose result it will hold, so that two processes never write the
same one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from tlc_jax.core.errors import UserError
from tlc_jax.storage.lock import locked
from tlc_jax.storage.paths import AnyPath, locked_folder, make_folder
from tlc_jax.storage.run_directory import LOCK


@contextlib.contextmanager
def claimed(folder: AnyPath) -> Iterator[None]:
    """Reserve the new folder `folder` for this process. UserError if it is not empty, or reserved by
    another process. The system ends the reservation with the process; a folder that is still empty then is
    removed."""
    if not isinstance(folder, Path):
        check_empty(folder)
        with locked(folder):
            check_empty(folder)
            yield
        return
    check_empty(folder)
    new = not folder.exists()
    make_folder(folder)
    with locked_folder(folder) as ours:
        if ours is False:  # without locks, the process that finishes last finds the folder full
            raise UserError(
                f"--out {folder} is being written by another process: wait for it, or give another folder"
            )
        try:
            check_empty(folder)
            yield
        finally:
            if new:
                with contextlib.suppress(OSError):  # not empty
                    folder.rmdir()


def check_empty(folder: AnyPath) -> None:
    """UserError if `folder` exists and is not an empty folder."""
    if folder.is_file():
        raise UserError(f"--out {folder} is a file: give a new folder")
    if folder.exists() and (
        not folder.is_dir() or any(path.name != LOCK or isinstance(path, Path) for path in folder.iterdir())
    ):
        raise UserError(f"--out {folder} is not empty: give a new folder")
