"""Reading the data of a run as far as it takes seconds."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tlc_jax.config import Config

_WHOLE = 8_000_000  # bytes that are prepared as `train` prepares them, which takes ten seconds at most
_MOST, _LONGEST = 64_000_000, 10.0  # characters and seconds of a longer text that are read


def read_sample(config: Config, whole: bool) -> str:
    """What the data are. UserError where they are not there or, as far as they are read, `train` would refuse
    them. Small data are prepared in the cache where they are `whole`: the run finds them there."""
    from rich.console import Console

    from tlc_jax.data import provenance
    from tlc_jax.tasks.kinds import kind_of

    kind = kind_of(config)
    source: Any = kind.source(config)
    if any("://" in str(path) for path in source.files.values()):
        return source.description
    size = sum(Path(path).stat().st_size for path in source.files.values())
    if whole and size <= _WHOLE:
        kind.task(config, kind.prepare(config, Console(quiet=True)))
        return f"{source.description}; prepared"
    provenance.check_there(source.files.values())
    text = hasattr(source, "documents") and source.origin.get("kind") == "files"
    return f"{source.description}{_read(source.documents()) if text else ''}"


def _read(documents: Iterator[str]) -> str:
    characters, until = 0, time.monotonic() + _LONGEST
    for document in documents:
        characters += len(document)
        if characters > _MOST or time.monotonic() > until:
            return f"; its first {characters / 1e6:,.0f} million characters can be read"
    return f"; all of its {characters / 1e6:,.0f} million characters can be read"
