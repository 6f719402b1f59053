"""One process at a time in a run directory.

On a local disk the lock goes with its process, however that ends. In a bucket it is a lease: an object that
only one process can create, and that its holder writes again and again; left alone, it runs out.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import platform
import re
import secrets
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

from etils import epath
from pydantic import StringConstraints

from tlc_jax.core.errors import EXIT_FAILED, UserError, one_line
from tlc_jax.core.printable import printable
from tlc_jax.core.schema import NotRequired, TypedDict, checked, record
from tlc_jax.storage.file_lock import FileLock, Taken
from tlc_jax.storage.paths import AnyPath
from tlc_jax.storage.run_directory import LOCK
from tlc_jax.storage.untrusted import parse_json, read_text

LEASE = 180.0  # seconds that a lease lasts unless it is renewed; longer than clocks of machines differ
RENEWED = 20.0  # seconds between renewals
_SHOWN = 200  # characters of what somebody else wrote there


@contextlib.contextmanager
def locked(folder: AnyPath) -> Iterator[Callable[[], None]]:
    """Holds `folder` inside; UserError that names the process that holds it already.

    Gives a function that raises SaveFailed where a local `folder` was removed, replaced or taken since. A
    lease that is lost ends the process itself.
    """
    holder = f"process {os.getpid()} on {platform.node()} since {_now().isoformat(timespec='seconds')}"
    if isinstance(folder, Path):
        try:
            lock = FileLock(folder, LOCK, holder)
        except Taken as taken:
            who = printable(taken.holder, _SHOWN) or "another process"
            raise UserError(_in_use(folder, who)) from taken
        with contextlib.closing(lock):
            yield lock.check
    else:
        with _lease(folder, holder):
            yield lambda: None


def _in_use(folder: AnyPath, holder: str) -> str:
    return f"{folder} is in use by {holder}: wait for it or stop it, or give another --workdir"


@record
class _Lease(TypedDict):
    """`machine` tells in which system the number of the holder's process counts, `id` one holder from
    another that has the same words."""

    holder: Annotated[str, StringConstraints(max_length=1000)]
    until: datetime.datetime
    machine: NotRequired[str]
    id: NotRequired[str]


@contextlib.contextmanager
def _lease(folder: epath.Path, holder: str) -> Iterator[None]:
    path = folder / LOCK
    other = _take(path, holder)
    if other is not None:
        raise UserError(
            f"{_in_use(folder, printable(other['holder'], _SHOWN))}; if it is dead, its lease runs out at "
            f"{other['until'].isoformat()}"
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


def _take(path: epath.Path, holder: str) -> _Lease | None:
    """None if the lease is ours now; otherwise whose it is."""
    try:
        return None if _create(path, holder) else _overtake(path, holder)
    except UserError:
        raise
    except Exception as error:  # gcsfs has errors of its own
        raise UserError(
            f"{path.parent} cannot be written ({one_line(error)}): is the bucket there, and yours?"
        ) from error


def _overtake(path: epath.Path, holder: str) -> _Lease | None:
    found = _read(path)
    if found is not None and found["until"] > _now() and not _is_dead(found):
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


def _read(path: epath.Path) -> _Lease | None:
    try:
        text = read_text(path, most=10_000)
    except FileNotFoundError:
        return None
    try:
        value = parse_json(text)
        return checked({**value, "until": _time(value["until"])}, _Lease)
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"{path} is no lease of a run ({one_line(error)}): remove it if nobody works there"
        ) from error


def _time(text: object) -> datetime.datetime:
    until = datetime.datetime.fromisoformat(str(text))
    return until if until.tzinfo else until.replace(tzinfo=datetime.UTC)


def _is_dead(lease: _Lease) -> bool:
    """Whether the holder was a process of this machine, and runs no more."""
    number = re.match(r"process (\d{1,9}) on ", lease["holder"])
    if number is None or lease.get("machine") != _machine():
        return False
    try:
        os.kill(int(number[1]), 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):  # somebody else's; no number of a process
        return False
    return False


def _machine() -> str:
    """Where a number names one process: two containers of one machine count for themselves."""
    try:
        booted = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{booted} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return platform.node()


def _renew(path: epath.Path, holder: str, ended: threading.Event) -> None:
    renewed = time.monotonic()
    while not ended.wait(RENEWED):
        try:
            found = _read(path)
            if found is None or found["holder"] != holder or found.get("id") != _ID:
                whose = printable(found["holder"], _SHOWN) if found else "nobody"
                _end(f"the lease of {path.parent} went to {whose}: ended unsaved")
            path.write_text(_lease_text(holder), encoding="utf-8")
            renewed = time.monotonic()
        except Exception as error:  # the store may answer again before the lease runs out
            if time.monotonic() - renewed > LEASE - 2 * RENEWED:
                _end(f"the lease of {path.parent} cannot be renewed: {one_line(error)}")


def _end(why: str) -> None:
    """At once: to save would write into another's run."""
    print(f"error: {why}", file=sys.stderr, flush=True)
    os._exit(EXIT_FAILED)


def _lease_text(holder: str) -> str:
    until = _now() + datetime.timedelta(seconds=LEASE)
    return json.dumps({"holder": holder, "until": until.isoformat(), "machine": _machine(), "id": _ID})


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


_ID = secrets.token_hex(8)
