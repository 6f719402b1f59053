"""The plan for the user's other data: text, labelled text or pairs, in files here or on the hub."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterator, Mapping, Sequence

from tlc_jax.core.errors import UserError
from tlc_jax.core.printable import first_of
from tlc_jax.data import tables
from tlc_jax.data.preparation import hub, row_readers
from tlc_jax.data.preparation.input_files import InputFile
from tlc_jax.data.preparation.local_inputs import local_files, local_paths
from tlc_jax.data.preparation.preparation_plan import Plan, Request, units_of
from tlc_jax.data.preparation.public_data import LABELLED, PAIRS, TEXT, RowReader
from tlc_jax.data.text.text_files import TEXT_SUFFIXES, is_text
from tlc_jax.storage.untrusted import is_plain_name

_HUB = re.compile(r"hf://datasets/(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>[^/]+))?(/(?P<pattern>.+))?")
_SHARD = re.compile(r"[-_.]?\d+(-of-\d+)?(-[0-9a-f]{16})?$")
_IS_WANTED: dict[str, Callable[[str], bool]] = {
    TEXT: is_text,
    LABELLED: lambda name: tables.table_stem(name) is not None,
    PAIRS: lambda name: tables.table_stem(name) is not None,
}
_SUFFIXES = {TEXT: TEXT_SUFFIXES, LABELLED: tables.SUFFIXES, PAIRS: tables.SUFFIXES}
_OPTIONS = {
    TEXT: "--config pretrain_small",
    LABELLED: "--config finetune_sst2 --data.name files --init-from RUN",
    PAIRS: "--config translate_small",
}


def plan_other(request: Request, commit: str | None) -> Plan:
    """The plan for other data, of the kind `request.name`. `commit` is that of an earlier process whose work
    is resumed."""
    kind = request.name
    if not request.inputs:
        raise UserError(f"{kind} needs --input: files, folders, archives, or hf://datasets/OWNER/NAME/FILES")
    files: list[InputFile] = []
    listings: dict[str, hub.Listing] = {}
    for text in request.inputs:
        if text.startswith("hf://"):
            repository, names = _hub_files(text, request.revision, commit, kind, listings)
            files += [listings[repository].files[name] for name in names]
        else:
            for name, path in local_paths([text]).items():
                files += local_files(name, path, _IS_WANTED[kind])
    if not files:
        raise UserError(
            f"{first_of(request.inputs)} has no file of {', '.join(_SUFFIXES[kind])}: name another --input"
        )
    if len(listings) > 1:
        raise UserError(f"--input names {' and '.join(listings)}: prepare one data set of the hub at a time")
    [listing] = [*listings.values()] or [None]
    unused: set[str] = set()
    reader, languages = _reader(kind, request, unused)
    parts: dict[str, list[InputFile]] = {}
    for file in files:
        parts.setdefault("text" if kind == TEXT else split_of(file.name), []).append(file)
    return Plan(
        kind=kind,
        units=tuple(units_of(kind, [(split, group, reader) for split, group in parts.items()])),
        source=first_of(request.inputs, 5),
        licence=request.licence or (listing and listing.licence) or "not stated",
        revision=listing.commit if listing else None,
        languages=languages,
        notes=tuple(_joined(kind, parts)),
        unused=unused,
        options=f"{_OPTIONS[kind]}{_pair_options(languages, list(parts)) if languages else ''}",
    )


def _joined(kind: str, parts: Mapping[str, Sequence[InputFile]]) -> Iterator[str]:
    """A sentence for each set to which files belong that are no shards of it, such as train.csv and
    train.tsv."""
    for split, files in parts.items() if kind != TEXT else ():
        names = [file.name for file in files]
        if len({tables.table_stem(name) for name in names}) < len(names):
            yield f"{first_of(names)} are read as one set, {split}"


def _reader(kind: str, request: Request, unused: set[str]) -> tuple[RowReader, tuple[str, str] | None]:
    wanted = dict(request.columns)
    if kind == TEXT:
        _check_fields(wanted, {"text"})
        return row_readers.documents(wanted.get("text", "text")), None
    if kind == LABELLED:
        _check_fields(wanted, {"text", "text_b", "label"})
        fields = {field: field for field in ("text", "text_b", "label")} | wanted
        optional = [field for field in ("text_b", "label") if field not in wanted]
        return row_readers.columns(fields, optional, unused), None
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
    text: str, revision: str | None, commit: str | None, kind: str, listings: dict[str, hub.Listing]
) -> tuple[str, list[str]]:
    """The repository that hf://datasets/OWNER/NAME[@REVISION][/FOLDER or /PATTERN] names, which is added to
    `listings`, and the names of its files that are wanted."""
    if (match := _HUB.fullmatch(text)) is None:
        raise UserError(f"{text} is not hf://datasets/OWNER/NAME, perhaps with @REVISION and /FILES after it")
    repository = match["repo"]
    if repository not in listings:
        listings[repository] = hub.list_files(repository, commit or match["revision"] or revision)
    pattern = (match["pattern"] or "*").rstrip("/")
    names = sorted(
        name
        for name in listings[repository].files
        if _IS_WANTED[kind](name) and (fnmatch.fnmatch(name, pattern) or name.startswith(f"{pattern}/"))
    )
    return repository, names
