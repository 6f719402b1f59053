"""The plan for a known data set: from its repository on the hub, from its archives, or from files of
either."""

from __future__ import annotations

import fnmatch
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from rich.console import Console

from tlc_jax.core.errors import UserError
from tlc_jax.core.printable import first_of
from tlc_jax.core.progress import stage
from tlc_jax.data.fingerprints import sha256_of
from tlc_jax.data.preparation import hub, row_readers
from tlc_jax.data.preparation.archives import Archive
from tlc_jax.data.preparation.input_files import InputFile, LocalFile, Member
from tlc_jax.data.preparation.local_inputs import local_paths
from tlc_jax.data.preparation.preparation_plan import Plan, Request, Unit, units_of
from tlc_jax.data.preparation.public_data import PAIRS, Publication, PublicData, RowReader


def plan_known(data: PublicData, request: Request, commit: str | None, console: Console) -> Plan:
    """The plan for a known data set. `commit` is that of an earlier process whose work is resumed."""
    if not request.inputs:
        listing = hub.list_files(data.repository, commit or request.revision)
        return _plan_of_listing(data, listing, request)
    if any(text.startswith("hf://") for text in request.inputs):
        raise UserError(
            f"{data.name} is read from {data.repository} alone: for other data of the hub give text, "
            "labelled or pairs as NAME"
        )
    paths = local_paths(request.inputs)
    archived = {archive.name: _find_archive(archive, paths) for archive in data.archives}
    if any(archived.values()):
        return _plan_of_archives(data, archived, request, console)
    files = {name: LocalFile(path, name) for name, path in paths.items()}
    units = units_of(data.kind, _matched(data, files, request, is_local=True))
    return _plan(data, request, units, first_of(request.inputs, 3), None)


def how_to_go_without_network(data: PublicData) -> str:
    """Which file to put where, to prepare a data set on a machine without a network."""
    if len(data.archives) == 1:
        archive = data.archives[0]
        return f"download {archive.url} on another machine, and give --input {archive.name} here"
    patterns = " ".join(f"--include {shlex.quote(name)}" for part in data.parts for name in part.files)
    also = f" (or {first_of([archive.name for archive in data.archives])})" if data.archives else ""
    return (
        f"on another machine run hf download {data.repository} --repo-type dataset {patterns} "
        f"--local-dir FOLDER{also}, bring FOLDER here, and give --input FOLDER"
    )


def _plan(
    data: PublicData,
    request: Request,
    units: Sequence[Unit],
    source: str,
    commit: str | None,
    licence: str = "",
) -> Plan:
    return Plan(
        kind=data.kind,
        units=tuple(units),
        source=source,
        licence=request.licence or licence or data.licence,
        revision=commit,
        languages=data.languages,
        published=data.published,
        options=data.options,
    )


def _plan_of_listing(data: PublicData, listing: hub.Listing, request: Request) -> Plan:
    units = units_of(data.kind, _matched(data, listing.files, request))
    source = f"https://huggingface.co/datasets/{data.repository}"
    return _plan(data, request, units, source, listing.commit, listing.licence or "")


def _matched(
    data: PublicData, files: Mapping[str, InputFile], request: Request, *, is_local: bool = False
) -> list[tuple[str, list[InputFile], RowReader]]:
    """(split, files, reader) of each part. UserError for a part without files."""
    matched = []
    for part in data.parts:
        names = sorted({name for pattern in part.files for name in _matches(files, pattern, is_local)})
        if not names:
            raise UserError(
                f"there is no {part.files[0]} for {data.name}: {how_to_go_without_network(data)}"
                if is_local
                else f"{data.repository} has no {part.files[0]} at this revision: give another --revision"
            )
        rows = row_readers.columns(request.columns) if request.columns else part.rows
        matched.append((part.split, [files[name] for name in names], rows))
    return matched


def _matches(files: Iterable[str], pattern: str, is_local: bool) -> list[str]:
    """The names that match. Local files match with any folder before the pattern, or else right in the folder
    that was given."""
    names = fnmatch.filter(files, pattern)
    if is_local and not names:
        flat = [name for name in files if name.count("/") < 2]
        last = pattern.rpartition("/")[2]
        names = fnmatch.filter(files, f"*/{pattern}") or [
            name for name in flat if fnmatch.fnmatch(name.rpartition("/")[2], last)
        ]
    return names


def _find_archive(archive: Publication, paths: Mapping[str, Path]) -> dict[str, Path]:
    """The path of an archive by its name or, if it was unpacked, those of its files; empty if it is not
    there."""
    for name, path in paths.items():
        if name.rpartition("/")[2] == archive.name:
            return {archive.name: path}
    wanted = [name for part in archive.parts for name in part.files]
    unpacked = {
        member: path for name, path in paths.items() for member in wanted if f"/{name}".endswith(f"/{member}")
    }
    return unpacked if len(unpacked) == len(wanted) else {}


def _plan_of_archives(
    data: PublicData, archived: Mapping[str, Mapping[str, Path]], request: Request, console: Console
) -> Plan:
    """All archives of a data set, which must be there and be those that were published."""
    parts: list[tuple[str, list[InputFile], RowReader]] = []
    for archive in data.archives:
        paths = archived[archive.name]
        if not paths:
            raise UserError(
                f"{data.name} also needs {archive.name}: download {archive.url}, and put it beside the others"
            )
        files: Mapping[str, InputFile] = {name: LocalFile(path, name) for name, path in paths.items()}
        if archive.name in paths:
            path = paths[archive.name]
            opened = Archive(path, _checked(path, archive, console))
            files = {name: Member(opened, name, size) for name, size in opened.members().items()}
        for part in archive.parts:
            if absent := [name for name in part.files if name not in files]:
                raise UserError(f"{paths[archive.name]} has no {absent[0]}: download {archive.url} again")
            parts.append((part.split, [files[name] for name in part.files], part.rows))
    units = units_of(data.kind, parts, parallel=data.kind == PAIRS)
    return _plan(data, request, units, ", ".join(archive.url for archive in data.archives), None)


def _checked(path: Path, archive: Publication, console: Console) -> str:
    """The SHA-256 of an archive; UserError if it is not the one that was published."""
    with stage(console, f"Checking {path.name}", path.stat().st_size / 1e6, "MB") as advance:
        digest = sha256_of(path, lambda size: advance(size / 1e6))
    if archive.sha256 is not None and digest != archive.sha256:
        raise UserError(
            f"{path} is not the {archive.name} that was published (SHA-256 {digest[:16]}... in place of "
            f"{archive.sha256[:16]}...): download {archive.url} again"
        )
    return digest
