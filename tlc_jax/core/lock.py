"""One process at a time in a run directory.

On a local disk the lock goes with its process, however that ends. In a bucket it is a lease: an object that
only one process can create, and that its holder writes again and again; left alone, it runs out.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import json
import os
import platform
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from etils import epath

from tlc_jax.core.errors import EXIT_FAILED, UserError
from tlc_jax.core.place import Place
from tlc_jax.core.rundir import LOCK

LEASE = 180.0  # seconds that a lease lasts unless it is renewed; longer than clocks of machines differ
RENEWED = 20.0  # seconds between renewals


@contextlib.contextmanager
def locked(folder: Place) -> Iterator[None]:
    """Holds `folder` inside; UserError that names the process that holds it already."""
    holder = f"process {os.getpid()} on {platform.node()} since {_now().isoformat(timespec='seconds')}"
    with _flock(folder, holder) if isinstance(folder, Path) else _lease(folder, holder):
        yield


@contextlib.contextmanager
def _flock(folder: Path, holder: str) -> Iterator[None]:
    with (folder / LOCK).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            raise UserError(_in_use(folder, file.read().strip() or "another process")) from error
        file.truncate(0)
        file.write(holder)
        file.flush()
        yield


def _in_use(folder: Place, holder: str) -> str:
    return f"{folder} is in use by {holder}: wait for it or stop it, or give another --workdir"


@contextlib.contextmanager
def _lease(folder: epath.Path, holder: str) -> Iterator[None]:
    path = folder / LOCK
    other = _take(path, holder)
    if other is not None:
        raise UserError(
            f"{_in_use(folder, other['holder'])}; if it is dead, its lease runs out at {other['until']}"
        )
    ended = threading.Event()
    renewing = threading.Thread(target=_renew, args=(path, holder, ended), name="lease", daemon=True)
    renewing.start()
    try:
        yield
    finally:
        ended.set()
        renewing.join()
        with contextlib.suppress(Exception):  # what cannot be given back runs out
            path.unlink(missing_ok=True)


def _take(path: epath.Path, holder: str) -> dict[str, Any] | None:
    """None if the lease is ours now; otherwise whose it is."""
    try:
        return None if _create(path, holder) else _overtake(path, holder)
    except Exception as error:  # gcsfs has errors of its own
        raise UserError(
            f"{path.parent} cannot be written ({error}): is the bucket there, and yours?"
        ) from error


def _overtake(path: epath.Path, holder: str) -> dict[str, Any] | None:
    found = _read(path)
    here, dead = f" on {platform.node()} ", found is not None and not _alive(found["holder"])
    if found is not None and found["until"] > _now().isoformat() and not (here in found["holder"] and dead):
        return found
    path.unlink(missing_ok=True)
    return None if _create(path, holder) else _read(path)  # whoever creates it first


def _create(path: epath.Path, holder: str) -> bool:
    import fsspec

    try:
        fsspec.filesystem("gcs").pipe_file(str(path), _lease_text(holder).encode(), mode="create")
    except FileExistsError:
        return False
    return True


def _read(path: epath.Path) -> dict[str, Any] | None:
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return None


def _alive(holder: str) -> bool:
    """Whether the process of this machine that a lease names still runs."""
    try:
        os.kill(int(holder.split()[1]), 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    return True


def _renew(path: epath.Path, holder: str, ended: threading.Event) -> None:
    renewed = time.monotonic()
    while not ended.wait(RENEWED):
        try:
            found = _read(path)
            if found is None or found["holder"] != holder:
                whose = found["holder"] if found else "nobody"
                print(f"error: the lease of {path.parent} went to {whose}: ended unsaved", file=sys.stderr)
                os._exit(EXIT_FAILED)  # to save would write into another's run
            path.write_text(_lease_text(holder))
            renewed = time.monotonic()
        except Exception as error:  # the store may answer again before the lease runs out
            if time.monotonic() - renewed > LEASE - 2 * RENEWED:
                print(f"error: the lease of {path.parent} cannot be renewed: {error}", file=sys.stderr)
                os._exit(EXIT_FAILED)


def _lease_text(holder: str) -> str:
    until = _now() + datetime.timedelta(seconds=LEASE)
    return json.dumps({"holder": holder, "until": until.isoformat()})


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
