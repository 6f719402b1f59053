"""What is recorded of a folder while it is prepared, so that another process can continue."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

from tlc_jax.core.errors import UserError
from tlc_jax.core.invocation import command
from tlc_jax.core.printable import printable
from tlc_jax.core.schema import Count, Name, Sha256, TypedDict, checked, record
from tlc_jax.data.preparation.preparation_plan import Request, Unit
from tlc_jax.storage.paths import write_text
from tlc_jax.storage.untrusted import read_json

RECORD = "progress.json"


@record
class ShardRecord(TypedDict):
    """What is recorded of a finished shard."""

    inputs: Sha256
    bytes: Count
    sha256: Sha256
    counts: dict[str, Any]
    sources: list[dict[str, Any]]
    source_count: Count


@record
class Progress(TypedDict):
    """The record of an unfinished folder."""

    request: dict[str, Any]
    revision: Name | None
    shards: dict[Name, ShardRecord]


def asked(request: Request) -> dict[str, Any]:
    """What the finished data depend on, as JSON has it."""
    return {
        "name": request.name,
        "inputs": list(request.inputs),
        "revision": request.revision,
        "columns": dict(request.columns),
        "licence": request.licence,
    }


def read_progress(folder: Path, request: Request, begun: bool) -> Progress:
    """The record of an earlier process, or an empty one. UserError if it was for something else: other data,
    of which anything is there, or other shards of the same."""
    path = folder / RECORD
    nothing: Progress = {"request": asked(request), "revision": None, "shards": {}}
    if not path.exists():
        return nothing
    try:
        progress = checked(read_json(path), Progress)
    except (OSError, ValueError):  # as a machine that loses power leaves it
        return nothing
    before, now = progress["request"], asked(request)
    if before == now:
        return progress
    same_data = all(before.get(field) == now[field] for field in ("name", "inputs"))
    if progress["shards"] or (begun and not same_data):
        resume = printable(_command(before, request.out), 2000)
        raise UserError(
            f"{folder} is the beginning of another preparation: {resume} resumes it; or remove it "
            f"(rm -r {shlex.quote(str(folder))}), or give another --out"
        )
    return nothing


def _command(before: dict[str, Any], out: Path) -> str:
    """The command of a request, as it was recorded."""
    words = [str(before.get("name"))]
    options = {"inputs": "input"} | {name: name for name in ("columns", "revision", "licence")}
    for field, option in options.items():
        value = before.get(field)
        values = [f"{key}={name}" for key, name in value.items()] if isinstance(value, dict) else value
        if values:
            given = values if isinstance(values, list) else [values]
            words += [f"--{option}", *map(str, given)]
    return f"{command('prepare')} {shlex.join([*words, '--out', str(out)])}"


def is_finished(folder: Path, unit: Unit, progress: Progress) -> bool:
    """Whether a shard is there in its folder, as it was recorded, of the same files."""
    done = progress["shards"].get(unit.shard)
    if done is None or done["inputs"] != unit.identity:
        return False
    path = folder / unit.shard
    return path.is_file() and path.stat().st_size == done["bytes"]


def save(folder: Path, progress: Progress) -> None:
    write_text(folder / RECORD, f"{json.dumps(progress, indent=1)}\n")
