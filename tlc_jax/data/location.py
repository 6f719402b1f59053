"""Whether `data.dir` leads anywhere, and whether two of its spellings lead to the same files."""

from __future__ import annotations

import errno
import glob
import os
from pathlib import Path

from tlc_jax.core.errors import UserError
from tlc_jax.storage.paths import local_folder

_OPTION = "a --data.dir"


def check_exists(pattern: str | None) -> None:
    """UserError if `data.dir` names nothing. Reads no data, and does not look into buckets."""
    if pattern is None or "://" in pattern:
        return
    if not pattern.strip():
        raise UserError("data.dir is empty: give a file, a folder or a glob")
    path = local_folder(pattern, _OPTION)
    if glob.has_magic(pattern) or status_of(path) is not None:
        return
    link = f", a link to {path.readlink()}" if path.is_symlink() else ""
    raise UserError(f"data.dir names {pattern}{link}, which does not exist: give a file, a folder or a glob")


def status_of(path: Path) -> os.stat_result | None:
    """The status of what a path leads to; None if it leads nowhere. OSError if that cannot be read."""
    try:
        return path.stat()
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return None
        raise


def same_path(one: str | None, other: str | None) -> bool:
    """Whether both name the same path: with a slash at the end, relative, or through links."""
    if one is None or other is None:
        return one == other
    return one == other or local_folder(one, _OPTION).resolve() == local_folder(other, _OPTION).resolve()
