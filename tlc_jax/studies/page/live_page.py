"""The page while a study or a run continues: written again when its folders have changed."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from tlc_jax.core import stopping
from tlc_jax.core.errors import UserError
from tlc_jax.storage.paths import AnyPath, write_bytes
from tlc_jax.studies.page.page_file import check_page, page_text
from tlc_jax.studies.page.page_server import PageServer
from tlc_jax.studies.page.page_sources import Sources, read_sources

_PAUSE = 2.0  # seconds between two looks
_SHARE = 4  # the time that a page takes to write is at most this part of all
_BUCKET = (
    60  # seconds after which a folder in a bucket counts as changed: each look would be a request a file
)
_WRITTEN = (
    "study.json",
    "items/**/*.json",
    "runs/**/metrics.jsonl",
    "metrics.jsonl",
    "notes.md",
    "plan.json",
    "*/metrics.jsonl",
)


def watch(folders: Sequence[str], output: str, port: int | None) -> None:
    """Write the page whenever its folders have changed, until the process is asked to stop. With a port it is
    served there, too."""
    path, sources = check_page(output), read_sources(folders)
    server = None if port is None else PageServer(port)
    before: object = None
    try:
        while not stopping.requested():
            began = time.monotonic()
            if (now := stamp(sources)) != before:
                _write(sources, path, server, first=before is None)
                before = now
            _pause(max(_PAUSE, _SHARE * (time.monotonic() - began)))
    finally:
        if server is not None:
            server.close()


def _write(sources: Sources, path: AnyPath, server: PageServer | None, first: bool) -> None:
    """Write the page, and serve it; a folder that cannot be read just now is read again when it has
    changed."""
    try:
        page = page_text(sources, path)
        write_bytes(path, page.text.encode())
        if server is not None:
            server.show(page.served.encode(), page.version)
    except UserError as error:
        if first:
            raise
        print(f"not written: {error}", flush=True)
        return
    shown = f", {server.url}" if server is not None else ""
    print(
        f"{time.strftime('%H:%M:%S')} page: {path}, {len(page.text.encode()) / 1000:,.0f} kB{shown}",
        flush=True,
    )


def stamp(sources: Sources) -> object:
    """What changes when a file that the page shows is written."""
    folders = [*sources.plans, *sources.studies, *sources.runs]
    return [
        sorted(_files(folder)) if isinstance(folder, Path) else time.monotonic() // _BUCKET
        for folder in folders
    ]


def _files(folder: Path) -> Iterable[tuple[str, int, int]]:
    for pattern in _WRITTEN:
        for path in folder.glob(pattern):
            try:
                about = path.stat()
            except OSError:  # removed meanwhile
                continue
            yield str(path), about.st_mtime_ns, about.st_size


def _pause(seconds: float) -> None:
    """Wait, but not when the process is asked to stop."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and not stopping.requested():
        time.sleep(0.2)
