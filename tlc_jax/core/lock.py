"""One process at a time in a run directory. The lock goes with its process, however that ends."""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import os
import platform
from collections.abc import Iterator
from pathlib import Path

from tlc_jax.core.errors import UserError
from tlc_jax.core.rundir import LOCK


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds `folder` inside; UserError that names the process that holds it already."""
    with (folder / LOCK).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            raise UserError(
                f"{folder} is in use by {file.read().strip() or 'another process'}: wait for it or stop it, "
                "or give another --workdir"
            ) from error
        file.truncate(0)
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        file.write(f"process {os.getpid()} on {platform.node()} since {now}")
        file.flush()
        yield
