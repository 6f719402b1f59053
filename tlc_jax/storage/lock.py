"""One process at a time in a run directory.

On a local disk the system releases the lock when the process ends. In a bucket the lock is a lease: an
object that only one process can create, which its holder renews regularly and which expires otherwise.
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

from tlc_jax.core import stopping
from tlc_jax.core.errors import EXIT_FAILED, UserError, one_line
from tlc_jax.core.printable import printable
from tlc_jax.core.schema import NotRequired, TypedDict, checked, record
from tlc_jax.storage.file_lock import FileLock, Taken
from tlc_jax.storage.paths import AnyPath, create_file
from tlc_jax.storage.run_directory import LOCK
from tlc_jax.storage.untrusted import parse_json, read_text

LEASE = 180.0  # seconds until a lease expires; longer than clocks of machines differ
RENEWED = 20.0  # seconds between renewals
_LOOK = 5.0  # seconds between looks at the lease of another machine
_SHOWN = 200  # characters of another process's description of itself


class InUse(UserError):
    """Another process has locked the folder; the message names it."""


@contextlib.contextmanager
def locked(folder: AnyPath, *, wait: bool = True) -> Iterator[Callable[[], None]]:
    """Lock `folder`; InUse if another process has locked it already. In a bucket the lease of another machine
    is first waited for, unless `wait` is false: it may be dead.

    Yields a function that raises SaveFailed if a local `folder` was removed, replaced or locked by another
    process since. Losing a lease ends the process.
    """
    holder = f"process {os.getpid()} on {platform.node()} since {_now().isoformat(timespec='seconds')}"
    if isinstance(folder, Path):
        try:
            lock = FileLock(folder, LOCK, holder)
        except Taken as taken:
            who = printable(taken.holder, _SHOWN) or "another process"
            raise InUse(_in_use(folder, who)) from taken
        with contextlib.closing(lock):
            yield lock.check
    else:
        with _lease(folder, holder, wait):
            yield lambda: None


def _in_use(folder: AnyPath, holder: str) -> str:
    return f"{folder} is in use by {holder}: wait for it or stop it, or give another --workdir"


@record
class _Lease(TypedDict):
    """`holder` describes the process, `machine` is the system in which its process number counts, and `id`
    distinguishes holders with the same description."""

    holder: Annotated[str, StringConstraints(max_length=1000)]
    until: datetime.datetime
    machine: NotRequired[str]
    id: NotRequired[str]


@contextlib.contextmanager
def _lease(folder: epath.Path, holder: str, wait: bool) -> Iterator[None]:
    path = folder / LOCK
    lease = _take(path, holder)
    if wait and lease is not None and lease.get("machine") != _machine() and _may_expire(lease):
        lease = _outlast(path, holder, lease)
    if lease is not None:
        raise InUse(
            f"{_in_use(folder, printable(lease['holder'], _SHOWN))}; if it is dead, its lease expires at "
            f"{lease['until'].isoformat()}"
        )
    ended = threading.Event()
    renewing = threading.Thread(target=_renew, args=(path, holder, ended), name="lease", daemon=True)
    renewing.start()
    try:
        yield
    finally:
        ended.set()
        renewing.join()
        with contextlib.suppress(Exception):  # a lease that cannot be removed expires
            path.unlink(missing_ok=True)


def _take(path: epath.Path, holder: str) -> _Lease | None:
    """Acquire the lease and return None, or return the lease of another process."""
    try:
        return None if _create(path, holder) else _overtake(path, holder)
    except UserError:
        raise
    except Exception as error:  # gcsfs has errors of its own
        raise UserError(
            f"{path.parent} cannot be written ({one_line(error)}): check that the bucket exists and is yours"
        ) from error


def _may_expire(lease: _Lease) -> bool:
    """Whether the lease expires soon by this machine's clock, if nobody renews it."""
    return lease["until"] < _now() + datetime.timedelta(seconds=2 * LEASE)


def _outlast(path: epath.Path, holder: str, lease: _Lease) -> _Lease | None:
    """Wait until the lease of another machine expires, acquire it and return None; return it as soon as it is
    renewed. A machine that was taken away cannot give its lease back, and whoever starts the next one would
    take a refusal for a failure."""
    seconds = max((lease["until"] - _now()).total_seconds(), 0)
    who = printable(lease["holder"], _SHOWN)
    waiting = f"waiting {seconds:.0f} s at most to see whether it is alive"
    print(f"{path.parent} is in use by {who}: {waiting}", file=sys.stderr, flush=True)
    seen, newest = lease, _take(path, holder)
    while newest is not None and newest["until"] == seen["until"]:
        stopping.check()
        time.sleep(_LOOK)
        newest = _take(path, holder)
    return newest


def _overtake(path: epath.Path, holder: str) -> _Lease | None:
    lease = _read(path)
    if lease is not None and lease["until"] > _now() and not _is_dead(lease):
        return lease
    path.unlink(missing_ok=True)
    return None if _create(path, holder) else _read(path)  # another process may be first


def _create(path: epath.Path, holder: str) -> bool:
    return create_file(path, _lease_text(holder))


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
            f"{path} is no lease of a run ({one_line(error)}): remove it if no process uses that run"
        ) from error


def _time(text: object) -> datetime.datetime:
    until = datetime.datetime.fromisoformat(str(text))
    return until if until.tzinfo else until.replace(tzinfo=datetime.UTC)


def _is_dead(lease: _Lease) -> bool:
    """Whether the holder was a process of this machine that has ended."""
    number = re.match(r"process (\d{1,9}) on ", lease["holder"])
    if number is None or lease.get("machine") != _machine():
        return False
    import psutil  # takes longer to import than a local lock

    try:
        return not psutil.pid_exists(int(number[1]))
    except OverflowError:  # not a process number
        return False


def _machine() -> str:
    """The system in which process numbers are unique: a boot of a machine and a container on it."""
    try:
        booted = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{booted} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return platform.node()


def _renew(path: epath.Path, holder: str, ended: threading.Event) -> None:
    renewed = time.monotonic()
    while not ended.wait(RENEWED):
        try:
            lease = _read(path)
            if lease is None or lease["holder"] != holder or lease.get("id") != _ID:
                taken = f"taken by {printable(lease['holder'], _SHOWN)}" if lease else "removed"
                _end(f"the lease of {path.parent} was {taken}: ended without saving")
            path.write_text(_lease_text(holder), encoding="utf-8")
            renewed = time.monotonic()
        except Exception as error:  # the store may answer again before the lease expires
            if time.monotonic() - renewed > LEASE - 2 * RENEWED:
                _end(f"the lease of {path.parent} cannot be renewed: {one_line(error)}")


def _end(reason: str) -> None:
    """End the process at once: saving would write into another process's run."""
    print(f"error: {reason}", file=sys.stderr, flush=True)
    os._exit(EXIT_FAILED)


def _lease_text(holder: str) -> str:
    until = _now() + datetime.timedelta(seconds=LEASE)
    return json.dumps({"holder": holder, "until": until.isoformat(), "machine": _machine(), "id": _ID})


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


_ID = secrets.token_hex(8)
