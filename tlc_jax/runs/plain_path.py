"""Another path to a folder whose own path Orbax and its stores misunderstand.

They take `[1e-3]` for a pattern, so that a part of a save is silently skipped, and `/gs/...` for a bucket;
bytes that are not UTF-8 are an error.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

from tlc_jax.core.errors import UserError
from tlc_jax.storage.paths import AnyPath, open_folder

_PLAIN = re.compile(r"/(?!(gs|s3|az|hf)/)[\w./+,=@:~ -]*", re.ASCII)
_OPEN_FILES = Path("/proc/self/fd")


@contextlib.contextmanager
def plain_path(folder: AnyPath) -> Iterator[AnyPath]:
    """A path without special characters to an existing, absolute `folder`, valid inside of the context.
    UserError where there is none."""
    if not isinstance(folder, Path) or _PLAIN.fullmatch(str(folder)):
        yield folder
        return
    if not _OPEN_FILES.is_dir():
        raise UserError(
            f"{folder} has characters that the library for checkpoints takes for a pattern: use only "
            "letters, digits and . _ - + = , @"
        )
    with open_folder(folder) as descriptor:
        yield _OPEN_FILES / str(descriptor)  # unlike a link, a killed process leaves none
