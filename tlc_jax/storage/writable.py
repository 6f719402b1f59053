"""Whether a result can be written where somebody wants it: asked before the work, not after it."""

from __future__ import annotations

import os
from pathlib import Path

from tlc_jax.core.errors import UserError
from tlc_jax.storage.paths import AnyPath, make_folder


def check_writable(path: AnyPath, option: str) -> None:
    """Makes the folder of a file that is to be written. UserError where that file cannot be: a folder or a
    device has its name, or nobody may write there."""
    make_folder(path.parent)
    if not isinstance(path, Path):
        return
    if path.exists() and not path.is_file():
        what = "a folder" if path.is_dir() else "no regular file"
        raise UserError(f"{option} {path} is {what}: name a file")
    existing = path if path.exists() else path.parent
    if not os.access(existing, os.W_OK):
        raise UserError(f"{option} {path} cannot be written (Permission denied at {existing}): name another")
