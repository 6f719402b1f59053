"""Prepare a data set: fetch its files one after another, write a shard of each, seal the folder.

Everything happens in an unfinished folder beside the one that is asked for; what is finished is moved there
as a whole. A process that is killed leaves finished shards, a record of them, and the beginning of a
download; the same command continues with them.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from tlc_jax.core.errors import UserError
from tlc_jax.core.printable import printable
from tlc_jax.core.progress import stage
from tlc_jax.data.preparation.hub import Unreachable
from tlc_jax.data.preparation.input_files import Fetched
from tlc_jax.data.preparation.known_data import find_known
from tlc_jax.data.preparation.plan_known import how_to_go_without_network, plan_known
from tlc_jax.data.preparation.plan_other import plan_other
from tlc_jax.data.preparation.preparation_plan import Plan, Request, Unit
from tlc_jax.data.preparation.prepared_use import what_next
from tlc_jax.data.preparation.progress_record import (
    Progress,
    ShardRecord,
    asked,
    is_finished,
    read_progress,
    save,
)
from tlc_jax.data.preparation.public_data import KINDS, PublicData
from tlc_jax.data.preparation.shards import Counts, write_shard
from tlc_jax.data.provenance import FORMAT, manifest_of
from tlc_jax.storage import sealed
from tlc_jax.storage.paths import locked_folder, make_folder

_UNFINISHED = ".unfinished"
_INPUTS, _SHARDS = "inputs", "data"  # folders in the unfinished one
_MEGABYTE = 1e6
_LISTED = 100  # files of a shard that are named in the manifest, which must stay small


def prepare_data(request: Request, console: Console) -> None:
    """Prepare what is asked for in the new folder `request.out`, or finish what an earlier process began."""
    data = find_known(request.name)
    if not request.out.name:
        raise UserError(f"--out {request.out} cannot be a new folder: give one inside")
    folder = request.out.with_name(f"{request.out.name}{_UNFINISHED}")
    if _is_prepared(request, console):
        shutil.rmtree(folder, ignore_errors=True)  # of a process that was killed at the very end
        return
    make_folder(folder / _INPUTS)
    make_folder(folder / _SHARDS)
    with _only_one(folder, request.out), _removed_without_work(folder, request):
        before = read_progress(folder, request, begun=bool(_work(folder)))
        plan = _make_plan(data, request, before["revision"], console)
        progress: Progress = {**before, "revision": plan.revision}
        todo = [unit for unit in plan.units if not is_finished(folder / _SHARDS, unit, progress)]
        _check_space(folder, plan, todo)
        console.print(_beginning(request, plan), soft_wrap=True)
        for note in plan.notes:
            console.print(f"note: {note}", soft_wrap=True)
        if len(todo) < len(plan.units):
            console.print(f"{len(plan.units) - len(todo):,} of {len(plan.units):,} shards are there already")
        _write_shards(folder, plan, todo, progress, request, console)
        _finish(folder, plan, progress, request, console)


def _make_plan(data: PublicData | None, request: Request, commit: str | None, console: Console) -> Plan:
    """The plan; UserError says what to do without a network."""
    try:
        return plan_known(data, request, commit, console) if data else plan_other(request, commit)
    except Unreachable as error:
        todo = how_to_go_without_network(data) if data else "name files that are on this machine"
        raise UserError(
            f"{data.name if data else ' '.join(request.inputs)} is on the Hugging Face hub, and {error}: "
            f"{todo}"
        ) from error


def _is_prepared(request: Request, console: Console) -> bool:
    """Whether the folder holds the data already. UserError if it holds anything else."""
    out = request.out
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out} is a file: give a new folder")
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    manifest = manifest_of(out)
    if manifest is None or manifest["prepared"].get("request") != asked(request):
        raise UserError(f"--out {out} is not empty: give a new folder")
    console.print(f"{out} holds it already: {_summary(manifest['prepared'])}", soft_wrap=True)
    return True


@contextlib.contextmanager
def _only_one(folder: Path, out: Path) -> Iterator[None]:
    with locked_folder(folder) as ours:
        if ours is False:
            raise UserError(f"another process prepares {out}: wait for it, or give another --out")
        yield


@contextlib.contextmanager
def _removed_without_work(folder: Path, request: Request) -> Iterator[None]:
    """Remove the folder after an error if it holds no finished shard and nothing of a download, so that the
    request can be corrected. What was unpacked of an archive here is quickly unpacked again."""
    before = _work(folder)
    try:
        yield
    except BaseException as error:
        local = request.inputs and not any(text.startswith("hf://") for text in request.inputs)
        wrong = isinstance(error, UserError) and local and not before
        if not list(folder.glob(f"{_SHARDS}/*.zst")) and (wrong or not list(folder.glob(f"{_INPUTS}/*"))):
            shutil.rmtree(folder, ignore_errors=True)
        raise


def _work(folder: Path) -> list[Path]:
    """All that an earlier process has left of inputs and shards."""
    return [*folder.glob(f"{_SHARDS}/*"), *folder.glob(f"{_INPUTS}/*")]


def _beginning(request: Request, plan: Plan) -> str:
    """What is about to be read, in a sentence."""
    files, size = sum(len(unit.files) for unit in plan.units), sum(unit.bytes for unit in plan.units)
    revision = f", revision {plan.revision[:12]}" if plan.revision else ""
    count = f"{files:,} file{'s' * (files != 1)}, {size / _MEGABYTE:,.0f} MB"
    return f"{request.name}: {count}, from {plan.source}{revision}"


def _check_space(folder: Path, plan: Plan, todo: list[Unit]) -> None:
    """UserError if the disk has less space than the files that are left, and the largest of them twice."""
    largest = max((unit.temporary for unit in todo), default=0)
    there = sum(path.stat().st_size for path in folder.glob(f"{_INPUTS}/*"))
    needed = sum(unit.bytes for unit in todo) + largest - there
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise UserError(
            f"{plan.source} needs about {needed / 1e9:.1f} GB on the disk of {folder.parent}, which has "
            f"{free / 1e9:.1f} GB: free some space, or give --out on another disk"
        )


def _write_shards(
    folder: Path, plan: Plan, todo: list[Unit], progress: Progress, request: Request, console: Console
) -> None:
    save(folder, progress)
    total = sum(unit.work for unit in todo) / _MEGABYTE
    with stage(console, f"Preparing {request.name}", total, "MB") as advance:
        for unit in todo:
            progress["shards"][unit.shard] = _write_unit(folder, plan, unit, advance)
            save(folder, progress)
            for path in (folder / _INPUTS).iterdir():
                path.unlink()


def _write_unit(folder: Path, plan: Plan, unit: Unit, advance: Callable[[float], None]) -> ShardRecord:
    """Fetch the files of a unit, and write its shard."""

    done = 0.0

    def arrived(size: float) -> None:
        nonlocal done
        done += size
        advance(size / _MEGABYTE)

    fetched = [file.fetch(folder / _INPUTS, arrived) for file in unit.files]
    # the text may be several times the size of what holds it
    scale = 1.0 if all(file.path.suffix in (".txt", ".tsv", ".csv", ".jsonl") for file in fetched) else 0.4
    path = folder / _SHARDS / unit.shard
    paths = [file.path for file in fetched]
    with _named(unit, fetched):
        counts = write_shard(
            path,
            plan.kind,
            lambda: unit.rows(paths),
            plan.languages or ("", ""),
            lambda size: arrived(min(size * scale, unit.work - done)),
        )
    arrived(unit.work - done)
    return {
        "inputs": unit.identity,
        **sealed.fingerprint(path),
        "counts": counts.record(),
        "sources": [file.record for file in fetched[:_LISTED]],
        "source_count": len(fetched),
    }


@contextlib.contextmanager
def _named(unit: Unit, fetched: list[Fetched]) -> Iterator[None]:
    """Name a file that was unpacked or downloaded as the user knows it in an error."""
    try:
        yield
    except UserError as error:
        text = str(error)
        for file, copy in zip(unit.files, fetched, strict=True):
            if file.temporary:
                archive = copy.record["name"]
                known = file.name if archive == file.name else f"{file.name} in {archive}"
                text = text.replace(str(copy.path), known)
        raise UserError(text) from error


def _finish(folder: Path, plan: Plan, progress: Progress, request: Request, console: Console) -> None:
    """Seal the folder of the shards and give it its name."""
    shards = {unit.shard: progress["shards"][unit.shard] for unit in plan.units}
    counts = {split: Counts() for split in dict.fromkeys(unit.split for unit in plan.units)}
    for unit in plan.units:
        counts[unit.split].add_record(shards[unit.shard]["counts"])
    notes = [
        f"{split} has {counts[split].rows:,} rows, the published data set {rows:,}"
        for split, rows in plan.published.items()
        if split in counts and counts[split].rows + sum(counts[split].left_out.values()) != rows
    ]
    origin = {
        "format": FORMAT,
        "name": request.name,
        "kind": plan.kind,
        "source": plan.source,
        "revision": plan.revision,
        "licence": plan.licence,
        "counts": {split: each.record() for split, each in counts.items()},
        "notes": notes,
        "request": asked(request),
        "inputs": _without_repeats(source for shard in shards.values() for source in shard["sources"]),
        "input_count": sum(shard["source_count"] for shard in shards.values()),
    }
    finished = folder / _SHARDS
    for path in finished.iterdir():
        if path.name not in shards:
            path.unlink()
    manifest = sealed.seal(finished, {"prepared": origin})
    for name, shard in shards.items():
        if manifest["files"][name]["sha256"] != shard["sha256"]:
            (finished / name).unlink()
            raise UserError(f"{finished / name} was changed after it was written: run the same command again")
    if request.out.exists():
        request.out.rmdir()  # empty
    finished.rename(request.out)
    shutil.rmtree(folder, ignore_errors=True)
    refused, commands = what_next(plan, request.out, request.name in KINDS)
    for note in [*notes, *_left_out(counts), *refused]:
        console.print(f"note: {note}", soft_wrap=True)
    console.print(f"written to {request.out}: {_summary(origin)}", soft_wrap=True)
    for text in commands:
        console.print(f"next: {text}", soft_wrap=True)


def _left_out(counts: Mapping[str, Counts]) -> Iterator[str]:
    for split, each in counts.items():
        if each.left_out:
            reasons = ", ".join(f"{count:,} for {reason}" for reason, count in each.left_out.items())
            yield f"{split}: {each.left_out.total():,} rows are left out: {reasons}"


def _without_repeats(sources: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each once: an archive is the source of several shards."""
    return list({tuple(source.items()): source for source in sources}.values())


def _summary(origin: dict[str, Any]) -> str:
    rows = ", ".join(f"{split} {counts['rows']:,}" for split, counts in origin["counts"].items())
    revision = f", revision {printable(origin['revision'][:12])}" if origin["revision"] else ""
    licence = printable(origin["licence"], 200)
    return f"{printable(origin['name'], 80)} ({rows} rows){revision}, licence {licence}"
