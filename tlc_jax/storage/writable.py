"""Check before the work that its result can be written."""

from __future__ import annotations

import os
from pathlib import Path

from tlc_jax.core.errors import UserError
from tlc_jax.storage.paths import AnyPath, make_folder


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
