"""What is to be prepared: which files, in which order, and the shard that each becomes."""

from __future__ import annotations

import fnmatch
import glob
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from tlc_jax.core.errors import UserError
from tlc_jax.core.printable import first_of
from tlc_jax.core.progress import stage
from tlc_jax.data import tables
from tlc_jax.data.fingerprints import sha256_of
from tlc_jax.data.preparation import archives, hub, row_readers
from tlc_jax.data.preparation.input_files import InputFile, LocalFile, Member, Remote
from tlc_jax.data.preparation.public_data import LABELLED, PAIRS, TEXT, Archive, PublicData, RowReader
from tlc_jax.data.text.text_files import TEXT_SUFFIXES
from tlc_jax.storage.paths import local_folder
from tlc_jax.storage.untrusted import is_plain_name

_HUB = re.compile(r"hf://datasets/(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>[^/]+))?(/(?P<pattern>.+))?")
_SHARD = re.compile(r"[-_.]?\d+(-of-\d+)?(-[0-9a-f]{16})?$")
_OPTION = "an --input"
_OPTIONS = {
    TEXT: "--config pretrain_small",
    LABELLED: "--config finetune_sst2 --data.name files --init-from RUN",
    PAIRS: "--config translate_small",
}


@dataclass(frozen=True)
class Request:
    """What the user asks for. `inputs` are files, folders, globs, archives or hf:// addresses; `columns` are
    fields with the columns to take for them."""

    name: str
    out: Path
    inputs: tuple[str, ...] = ()
    revision: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    licence: str | None = None


@dataclass(frozen=True)
class Unit:
    """Files that together become one shard."""

    shard: str
    split: str
    files: tuple[InputFile, ...]
    rows: RowReader

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.files)

    @property
    def traffic(self) -> int:
        return sum(file.traffic for file in self.files)

    @property
    def identity(self) -> list[list[str]]:
        return [[file.name, file.identity] for file in self.files]


@dataclass(frozen=True)
class Plan:
    """Everything that is decided before anything is fetched. `source` says where the files are."""

    kind: str
    units: tuple[Unit, ...]
    source: str
    licence: str
    revision: str | None = None
    languages: tuple[str, str] | None = None
    published: Mapping[str, int] = field(default_factory=dict)
    options: str = ""
    """Options of `train` that read the data."""


def make_plan(data: PublicData | None, request: Request, commit: str | None, console: Console) -> Plan:
    """The plan for a known data set, or for the user's own data (None). `commit` is that of an earlier
    process whose work is resumed."""
    if data is None:
        return _plan_of_inputs(request, commit)
    if not request.inputs:
        listing = hub.list_files(data.repository, commit or request.revision)
        return _plan_of_listing(data, listing, request)
    paths = _local_paths(request.inputs)
    archived = {archive.name: _find_archive(archive, paths) for archive in data.archives}
    if any(archived.values()):
        return _plan_of_archives(data, archived, request, console)
    files = {name: LocalFile(path, name) for name, path in paths.items()}
    units = _units(data.kind, _matched(data, files, request, is_local=True))
    return _plan(data, request, units, first_of(request.inputs, 3), None)


def how_to_go_without_network(data: PublicData | None, request: Request) -> str:
    """Which file to put where, to prepare a data set on a machine without a network."""
    if data is None:
        return "download the files on another machine, and name them with --input"
    if len(data.archives) == 1:
        archive = data.archives[0]
        return f"download {archive.url} on another machine, and give --input {archive.name} here"
    patterns = ", ".join(dict.fromkeys(pattern for part in data.parts for pattern in part.files))
    also = f", or {first_of([archive.name for archive in data.archives])}" if data.archives else ""
    return (
        f"on another machine download {patterns} of https://huggingface.co/datasets/{data.repository}{also}, "
        "put them into a folder here, and give --input FOLDER"
    )


# --- known data sets --------------------------------------------------------------------------------


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
    files = {name: Remote(file) for name, file in listing.files.items()}
    units = _units(data.kind, _matched(data, files, request))
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
                f"there is no {part.files[0]} for {data.name}: {how_to_go_without_network(data, request)}"
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


def _find_archive(archive: Archive, paths: Mapping[str, Path]) -> dict[str, Path]:
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
            digest, sizes = _checked(path, archive, console), archives.members(path)
            files = {name: Member(path, digest, name, size) for name, size in sizes.items()}
        for part in archive.parts:
            if absent := [name for name in part.files if name not in files]:
                raise UserError(f"{paths[archive.name]} has no {absent[0]}: download {archive.url} again")
            parts.append((part.split, [files[name] for name in part.files], part.rows))
    units = _units(data.kind, parts, parallel=data.kind == PAIRS)
    return _plan(data, request, units, ", ".join(archive.url for archive in data.archives), None)


def _checked(path: Path, archive: Archive, console: Console) -> str:
    """The SHA-256 of an archive; UserError if it is not the one that was published."""
    with stage(console, f"Checking {path.name}", path.stat().st_size / 1e6, "MB") as advance:
        digest = sha256_of(path, lambda size: advance(size / 1e6))
    if archive.sha256 is not None and digest != archive.sha256:
        raise UserError(
            f"{path} is not the {archive.name} that was published (SHA-256 {digest[:16]}... in place of "
            f"{archive.sha256[:16]}...): download {archive.url} again"
        )
    return digest


def _units(
    kind: str, parts: Iterable[tuple[str, Sequence[InputFile], RowReader]], parallel: bool = False
) -> list[Unit]:
    """A shard for each file; of labelled text, or for `parallel` files, one for all files of a part."""
    together = parallel or kind == LABELLED
    groups = [
        (split, rows, group)
        for split, files, rows in parts
        for group in ([tuple(files)] if together else [(file,) for file in files])
    ]
    units, counts = [], {split: sum(s == split for s, _, _ in groups) for split, _, _ in groups}
    numbers = dict.fromkeys(counts, 0)
    suffix = ".tsv.zst" if kind == PAIRS else ".jsonl.zst"
    for split, rows, group in groups:
        count, number = counts[split], numbers[split]
        name = split if kind == LABELLED else f"{split}-{number:05d}-of-{count:05d}"
        units.append(Unit(f"{name}{suffix}", split, group, rows))
        numbers[split] += 1
    return units


# --- the user's own data -----------------------------------------------------------------------------


def _plan_of_inputs(request: Request, commit: str | None) -> Plan:
    kind = request.name
    if not request.inputs:
        raise UserError(f"{kind} needs --input: files, folders, archives, or hf://datasets/OWNER/NAME/FILES")
    suffixes = TEXT_SUFFIXES if kind == TEXT else (".tsv", ".csv", ".jsonl", ".parquet")
    files: list[InputFile] = []
    licence, revision = "", None
    for text in request.inputs:
        if text.startswith("hf://"):
            more, listing = _hub_files(text, request.revision, commit, suffixes)
            files += more
            licence, revision = listing.licence or "", listing.commit
        else:
            for name, path in _local_paths([text]).items():
                files += _local_files(name, path, suffixes)
    if not files:
        raise UserError(
            f"{first_of(request.inputs)} has no file of {', '.join(suffixes)}: name another --input"
        )
    reader, languages = _reader(kind, request)
    parts: dict[str, list[InputFile]] = {}
    for file in files:
        parts.setdefault("text" if kind == TEXT else split_of(file.name), []).append(file)
    return Plan(
        kind=kind,
        units=tuple(_units(kind, [(split, group, reader) for split, group in parts.items()])),
        source=first_of(request.inputs, 5),
        licence=request.licence or licence or "not stated",
        revision=revision,
        languages=languages,
        options=f"{_OPTIONS[kind]}{_pair_options(languages, list(parts)) if languages else ''}",
    )


def _reader(kind: str, request: Request) -> tuple[RowReader, tuple[str, str] | None]:
    wanted = dict(request.columns)
    if kind == TEXT:
        _check_fields(wanted, {"text"})
        return row_readers.documents(wanted.get("text", "text")), None
    if kind == LABELLED:
        _check_fields(wanted, {"text", "text_b", "label"})
        fields = {field: field for field in ("text", "text_b", "label")} | wanted
        optional = [field for field in ("text_b", "label") if field not in wanted]
        return row_readers.columns(fields, optional), None
    if len(wanted) != 2:
        raise UserError(
            "pairs need the columns of both languages, such as --columns en=translation.en fr=translation.fr"
        )
    source, target = wanted
    return row_readers.columns(wanted), (source, target)


def _pair_options(languages: tuple[str, str], splits: Sequence[str]) -> str:
    train = "train" if "train" in splits else splits[0]
    evaluated = "".join(
        f" --data.{split} '{split}-*.tsv.zst'"
        for split in ("validation", "test")
        if split in {*splits} - {train}
    )
    source, target = languages
    return f" --data.source {source} --data.target {target} --data.train '{train}-*.tsv.zst'{evaluated}"


def _check_fields(wanted: Mapping[str, str], fields: set[str]) -> None:
    if unknown := wanted.keys() - fields:
        raise UserError(f"--columns {min(unknown)}=...: the fields are {', '.join(sorted(fields))}")


def split_of(name: str) -> str:
    """The split that a file belongs to, as its name says: `train-00000-of-00002.parquet`, `data/test.csv`,
    `validation/0000.parquet`."""
    folder, _, last = name.rpartition("/")
    stem = _SHARD.sub("", tables.table_stem(last) or last)
    split = stem or folder.rpartition("/")[2] or "train"
    if not is_plain_name(split):
        raise UserError(f"{name} has a name that cannot be the name of a set: rename it")
    return split


def _hub_files(
    text: str, revision: str | None, commit: str | None, suffixes: Sequence[str]
) -> tuple[list[InputFile], hub.Listing]:
    """The files that hf://datasets/OWNER/NAME[@REVISION][/FOLDER or /PATTERN] names."""
    if (match := _HUB.fullmatch(text)) is None:
        raise UserError(f"{text} is not hf://datasets/OWNER/NAME, perhaps with @REVISION and /FILES after it")
    listing = hub.list_files(match["repo"], commit or match["revision"] or revision)
    pattern = (match["pattern"] or "*").rstrip("/")
    names = sorted(
        name
        for name in listing.files
        if name.lower().endswith(tuple(suffixes))
        and (fnmatch.fnmatch(name, pattern) or name.startswith(f"{pattern}/"))
    )
    return [Remote(listing.files[name]) for name in names], listing


def _local_paths(inputs: Sequence[str]) -> dict[str, Path]:
    """The files that paths and globs name, those in folders included, by names that begin with the last part
    of the path; hidden ones are left out."""
    paths: dict[str, Path] = {}
    for text in inputs:
        path = local_folder(text, _OPTION)
        matches = [path] if path.exists() else _expanded(path)
        if not matches:
            raise UserError(f"--input {text} does not exist: name a file, a folder, a glob or an archive")
        for match in (match.resolve() for match in matches):
            for path in sorted(match.rglob("*")) if match.is_dir() else [match]:
                name = path.relative_to(match.parent).as_posix()
                if path.is_file() and not any(part.startswith(".") for part in name.split("/")[1:]):
                    paths[name if name not in paths else str(path)] = path
    return paths


def _expanded(pattern: Path) -> list[Path]:
    """The paths that a glob matches."""
    if not glob.has_magic(str(pattern)):
        return []
    root = Path(pattern.anchor)
    return sorted(root.glob(str(pattern.relative_to(pattern.anchor))))


def _local_files(name: str, path: Path, suffixes: Sequence[str]) -> list[InputFile]:
    """The file itself, or those in it if it is an archive, that are wanted by their suffix."""
    if not archives.is_archive(path.name):
        return [LocalFile(path, name)] if path.name.lower().endswith(tuple(suffixes)) else []
    digest, sizes = sha256_of(path), archives.members(path)
    names = sorted(name for name in sizes if name.lower().endswith(tuple(suffixes)) and is_plain_name(name))
    return [Member(path, digest, name, sizes[name]) for name in names]
