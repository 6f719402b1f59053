"""Check before the work that its result can be written."""

from __future__ import annotations

import os
import secrets
import tempfile
from pathlib import Path

from tlc_jax.core.errors import UserError
from tlc_jax.storage.file_lock import FileLock
from tlc_jax.storage.paths import AnyPath, make_folder, writing

_SAMPLE = bytes(1 << 20)


def check_writable(path: AnyPath, option: str) -> None:
    """Make the folder of a file that is to be written. UserError if the file cannot be written: its path is
    that of a folder or a device, or is not writable."""
    make_folder(path.parent)
    if not isinstance(path, Path):
        return
    if path.exists() and not path.is_file():
        kind = "a folder" if path.is_dir() else "not a regular file"
        raise UserError(f"{option} {path} is {kind}: name a file")
    existing = path if path.exists() else path.parent
    if not os.access(existing, os.W_OK):
        raise UserError(f"{option} {path} cannot be written (Permission denied at {existing}): name another")


def try_folder(folder: AnyPath) -> None:
    """Write a file of 1 MiB below a folder, or below the nearest parent that exists, lock it there and remove
    it. OSError, UserError or what the object store raises where one of these fails."""
    if not isinstance(folder, Path):
        sample = folder / f"doctor.{secrets.token_hex(6)}"
        sample.write_bytes(_SAMPLE)
        sample.unlink()
        return
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    with tempfile.TemporaryDirectory(prefix=".tlc_jax_", dir=existing) as name:
        FileLock(Path(name), "lock", "doctor").close()
        sample = Path(name) / "sample"
        with writing(sample), sample.open("wb") as file:
            file.write(_SAMPLE)
            file.flush()
            os.fsync(file.fileno())
