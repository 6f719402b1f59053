"""Where sentence pairs come from: tables, TFDS, message catalogues; in sets to train on, to validate, to
test.

A source is named as the user wrote it; its identity is that of the files it is read from. Pairs are read in
the files' order and are never changed but for line ends.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from etils import epath

from tlc_jax.config.data import PairsConfig
from tlc_jax.core import stopping
from tlc_jax.core.errors import UserError
from tlc_jax.data import tables
from tlc_jax.data.pairs import languages
from tlc_jax.data.text.sources import LONGEST_TEXT, identity_of
from tlc_jax.data.tfds_source import tfds_examples, tfds_files, tfds_folder, tfds_string
from tlc_jax.storage.paths import local_folder

Pair = tuple[str, str]
SUFFIXES = (".tsv", ".tsv.gz", ".tsv.zst")
CATALOGUES = "catalogues"
TRAIN, HELD_OUT = "train", "held_out"
_UNQUOTE = "which are not interpreted: write it without (pandas: to_csv(..., sep='\\t', quoting=3))"
_RETAB = (
    'convert it (python -c \'import csv, sys; [print(*row, sep="\\t") for row in csv.reader(sys.stdin, '
    'delimiter="{0}")]\' < FILE > NEW.tsv)'
)
RESERVED = {TRAIN, HELD_OUT}  # the sets that are made of the sources in data.train


@dataclass(frozen=True)
class PairSource:
    """Pairs that can be read more than once. `share` is what the user wrote behind '=', if anything."""

    name: str
    share: float | None
    files: dict[str, epath.Path]
    pairs: Callable[[], Iterator[Pair]]

    @property
    def label(self) -> str:
        """A name without slashes, for metrics and files."""
        name = self.name
        suffix = next((own for own in SUFFIXES if name.lower().endswith(own)), "")
        name = name[: len(name) - len(suffix)]
        last = name if ":" in name else name.rpartition("/")[2]
        return re.sub(r"[^\w.-]+", "_", last).strip("_.") or "all"


@dataclass(frozen=True)
class PairSets:
    """Sources by what they are for."""

    train: list[PairSource]
    validation: list[PairSource]
    test: list[PairSource]

    def identity(self) -> dict[str, Any]:
        """What the pairs depend on, wherever the files lie."""
        return {
            part: [[own.name, own.share, identity_of(own.files)] for own in sources]
            for part, sources in vars(self).items()
        }

    @property
    def description(self) -> str:
        return ", ".join(own.name for own in self.train)


def open_pairs(config: PairsConfig, to_train: bool = True) -> PairSets:
    """The sources that `config` names, or those to evaluate on only; UserError where one is not there or two
    evaluation sets have one name."""
    sets = PairSets(
        _sources("data.train", config.train, config) if to_train else [],
        _sources("data.validation", config.validation, config),
        _sources("data.test", config.test, config),
    )
    shares = [own.share for own in sets.train]
    if any(share is None for share in shares) and any(share is not None for share in shares):
        raise UserError(
            f"data.train {config.train} gives some sources a share and others none: give all or none"
        )
    evaluated = [*sets.validation, *sets.test]
    if given := [own.name for own in evaluated if own.share is not None]:
        raise UserError(f"{', '.join(given)} is evaluated as a whole: shares are for data.train")
    labels = [own.label for own in evaluated]
    if taken := RESERVED & set(labels):
        raise UserError(
            f"a set to evaluate on is called {', '.join(taken)}, which names another one: rename its file"
        )
    if twice := {label for label in labels if labels.count(label) > 1}:
        raise UserError(
            f"two sets to evaluate on are called {', '.join(sorted(twice))}: name each once, and files by "
            "names of their own"
        )
    return sets


def _sources(option: str, text: str, config: PairsConfig) -> list[PairSource]:
    found = []
    for part in (part.strip() for part in text.split(",")):
        if not part:
            continue
        name, equals, given = part.partition("=")
        if not name.strip():
            raise UserError(f"{option}: {part!r} names no source")
        try:
            share = float(given) if equals else None
        except ValueError:
            share = -1.0
        if share is not None and not 0 < share < float("inf"):
            raise UserError(f"{option}: the share of {name} is {given!r}, not a positive number")
        found.append(_source(option, name.strip(), share, config))
    return found


def _source(option: str, name: str, share: float | None, config: PairsConfig) -> PairSource:
    if name == CATALOGUES:
        from tlc_jax.data.pairs.catalogues import catalogue_files, read_catalogues

        files = catalogue_files(config.source, config.target)
        return PairSource(name, share, files, lambda: read_catalogues(files, config.target))
    if ":" in name:
        return _tfds(name, share, config)
    if config.dir is None:
        raise UserError(
            f"{option} names {name}, but data.dir is not set: give --data.dir the folder that it is in"
        )
    root = local_folder(config.dir, "a --data.dir")
    paths = _paths(option, root, name)
    if not paths or not all(path.is_file() for path in paths):
        raise UserError(
            f"{option}: there is no {name} in {root}; a source is a table ({', '.join(SUFFIXES)}), a glob, "
            f"a TFDS dataset with its split (wmt14_translate/fr-en:train), or {CATALOGUES}"
        )
    if wrong := [path.name for path in paths if not path.name.lower().endswith(SUFFIXES)]:
        raise UserError(
            f"{option}: {', '.join(wrong)} is none of {', '.join(SUFFIXES)}: convert or rename it"
        )
    columns = (config.source, config.target)
    files = {os.path.relpath(path, root): epath.Path(path) for path in paths}

    def pairs() -> Iterator[Pair]:
        for path in paths:
            yield from _table(path, columns)

    return PairSource(name, share, files, pairs)


def _paths(option: str, root: Path, name: str) -> list[Path]:
    """The file of a name, or those of a glob, which matches hidden files no more than a shell's does."""
    if not re.search(r"[*?\[]", name):
        return [root / name]
    try:
        return sorted(path for path in root.glob(name) if not path.name.startswith("."))
    except (ValueError, NotImplementedError) as error:
        raise UserError(f"{option}: {name} is no glob below {root} ({error}): correct it") from error


def _table(path: Path, columns: tuple[str, str]) -> Iterator[Pair]:
    """Pairs of a table. A first line that names both languages, or source and target, says which column is
    which; without one there are two columns, the source first. UserError where that is in doubt."""
    sides: tuple[int, int] | None = None
    header: list[str] = []
    rows, quoted = 0, 0
    for number, cells in tables.tsv_rows(path):
        if sides is None:
            sides, header = _sides(path, number, cells, columns)
            if header:
                continue
        if cells == header:
            raise UserError(f"{path} line {number} repeats the names of the columns: remove it")
        rows += 1
        quoted += all(map(tables.is_quoted, cells))
        pair = cells[sides[0]], cells[sides[1]]
        if max(map(len, pair)) > LONGEST_TEXT:
            raise UserError(f"{path} line {number} has more than {LONGEST_TEXT:,} characters: shorten it")
        yield pair
    if not rows:
        raise UserError(f"{path} has no pairs: fill it or take it away")
    if tables.are_quoted(quoted, rows):
        raise UserError(f"{path} has quotes around all cells of {quoted:,} of its {rows:,} rows, {_UNQUOTE}")


def _sides(
    path: Path, number: int, cells: list[str], columns: tuple[str, str]
) -> tuple[tuple[int, int], list[str]]:
    """Where source and target are, and the names of the columns if the first line gives them."""
    wanted, has = " and ".join(columns), f"{path} line {number} has the columns {tables.some(cells)}"
    name_them = f"name the columns above (sed -i '1i {columns[0]}\\t{columns[1]}' FILE)"
    try:
        found = languages.columns_of(cells, *columns)
    except ValueError as error:
        raise UserError(f"{path} line {number} {error}: rename or remove a column") from error
    if found is not None:
        return found, cells
    if _names_both([cell.strip('"') for cell in cells], columns):
        raise UserError(f"{path} line {number} names columns in quotes, {_UNQUOTE}")
    tables.check_separator(path, number, cells, lambda names: _names_both(names, columns), _RETAB)
    if languages.is_header(cells):
        raise UserError(
            f"{has}, not {wanted}: give --data.source and --data.target as they are called, correct the "
            f"line, or, if it is a pair, {name_them}"
        )
    if len(cells) == 1:
        raise UserError(
            f"{path} line {number} has no tab: a line holds a sentence, a tab, and its translation"
        )
    if len(cells) > 2:
        raise UserError(
            f"{path} has {len(cells)} columns, and no first line says which are {wanted}: {name_them}, one "
            "name for each column, or keep two (cut -f 1,2 FILE)"
        )
    return (0, 1), []


def _names_both(cells: list[str], columns: tuple[str, str]) -> bool:
    try:
        return languages.columns_of(cells, *columns) is not None
    except ValueError:  # and one of them twice
        return True


def _tfds(name: str, share: float | None, config: PairsConfig) -> PairSource:
    dataset, _, split = name.partition(":")
    folder = tfds_folder(dataset, config.dir)
    files = tfds_files(dataset, folder, split)

    def pairs() -> Iterator[Pair]:
        for number, example in enumerate(tfds_examples(folder, split)):
            stopping.check()
            source, target = (
                tfds_string(example, language, number, folder) for language in (config.source, config.target)
            )
            yield source.replace("\n", " "), target.replace("\n", " ")

    return PairSource(name, share, files, pairs)
