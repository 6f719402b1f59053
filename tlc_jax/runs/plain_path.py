"""Another path to a folder whose own Orbax and its stores take for something else.

`[1e-3]` is a pattern to them, so that a part of a save is silently skipped, `/gs/...` a bucket, and bytes
that are no UTF-8 are an error.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from tlc_jax.core.errors import UserError
from tlc_jax.storage.paths import AnyPath

_PLAIN = re.compile(r"/(?!(gs|s3|az|hf)/)[\w./+,=@:~ -]*", re.ASCII)
_OPEN_FILES = Path("/proc/self/fd")


@contextlib.contextmanager
def plain_path(folder: AnyPath) -> Iterator[AnyPath]:
    """A path without characters that mean something else, to an absolute `folder` that is there, for as long
    as the context lasts. UserError where there is no such path."""
    if not isinstance(folder, Path) or _PLAIN.fullmatch(str(folder)):
        yield folder
        return
    if not _OPEN_FILES.is_dir():
        raise UserError(
            f"{folder} has characters that the library for checkpoints takes for a pattern: take letters, "
            "digits and . _ - + = , @ only"
        )
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield _OPEN_FILES / str(descriptor)  # nothing that a killed process would leave behind
    finally:
        os.close(descriptor)
