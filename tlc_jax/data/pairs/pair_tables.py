"""Sentence pairs of the user's own tables below data.dir (.tsv, .csv, .parquet), one pair a row."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from etils import epath

from tlc_jax.config.data import PairsConfig
from tlc_jax.core.errors import UserError
from tlc_jax.core.printable import first_of
from tlc_jax.data import tables
from tlc_jax.data.lines import LONGEST_TEXT
from tlc_jax.data.pairs import languages
from tlc_jax.data.pairs.pair_source import SUFFIXES, Pair, PairSource
from tlc_jax.storage.paths import local_folder

_UNQUOTE = "which are not interpreted: write it without (pandas: to_csv(..., sep='\\t', quoting=3))"
_RETAB = (
    'convert it (python -c \'import csv, sys; [print(*row, sep="\\t") for row in csv.reader(sys.stdin, '
    'delimiter="{0}")]\' < FILE > NEW.tsv)'
)


def table_pairs(option: str, name: str, share: float | None, config: PairsConfig) -> PairSource:
    """The pairs of a table, or of the tables that a glob matches. `option` begins messages."""
    if config.dir is None:
        raise UserError(
            f"{option} names {name}, but data.dir is not set: give --data.dir the folder that it is in"
        )
    root = local_folder(config.dir, "a --data.dir")
    paths = _paths(option, root, name)
    if not paths or not all(path.is_file() for path in paths):
        raise UserError(
            f"{option}: there is no {name} in {root}; a source is a table ({', '.join(SUFFIXES)}), a glob, "
            "a TFDS dataset with its split (wmt14_translate/fr-en:train), or catalogues"
        )
    if wrong := [path.name for path in paths if not path.name.lower().endswith(SUFFIXES)]:
        raise UserError(
            f"{option}: {', '.join(wrong)} is none of {', '.join(SUFFIXES)}: convert or rename it"
        )
    return pairs_of(paths, root, name, share, config)


def pairs_of(
    paths: Sequence[Path], root: Path, name: str, share: float | None, config: PairsConfig
) -> PairSource:
    """The pairs of these tables, which are below `root`."""
    files = {os.path.relpath(path, root): epath.Path(path) for path in paths}

    def pairs() -> Iterator[Pair]:
        for path in paths:
            yield from _table(path, (config.source, config.target))

    return PairSource(name, share, files, pairs)


def _paths(option: str, root: Path, name: str) -> list[Path]:
    """The file of this name, or the files that a glob matches, which like a shell's skips hidden files."""
    if not re.search(r"[*?\[]", name):
        return [root / name]
    try:
        return sorted(path for path in root.glob(name) if not path.name.startswith("."))
    except (ValueError, NotImplementedError) as error:
        raise UserError(f"{option}: {name} is not a glob below {root} ({error}): correct it") from error


def _table(path: Path, columns: tuple[str, str]) -> Iterator[Pair]:
    """The pairs of a table. A first line that names both languages, or source and target, says which column
    is which; without one there are two columns, the source first. UserError if that is in doubt."""
    sides: tuple[int, int] | None = None
    header: list[str] = []
    rows, quoted = 0, 0
    is_tsv = tables.table_kind(path) == ".tsv"
    for number, cells in tables.cell_rows(path):
        if sides is None:
            sides, header = _sides(path, number, cells, columns)
            if header:
                continue
        location = tables.row_location(path, number)
        if cells == header:
            raise UserError(f"{location} repeats the names of the columns: remove it")
        rows += 1
        quoted += is_tsv and all(map(tables.is_quoted, cells))
        pair = cells[sides[0]], cells[sides[1]]
        if max(map(len, pair)) > LONGEST_TEXT:
            raise UserError(f"{location} has more than {LONGEST_TEXT:,} characters: shorten it")
        yield pair if is_tsv else (_one_line(pair[0]), _one_line(pair[1]))
    if not rows:
        raise UserError(f"{path} has no pairs: fill it or remove it")
    if tables.are_quoted(quoted, rows):
        raise UserError(f"{path} has quotes around all cells of {quoted:,} of its {rows:,} rows, {_UNQUOTE}")


def _one_line(text: str) -> str:
    """A cell of a .csv or a .parquet may hold line ends and tabs; sets to evaluate on are kept as lines."""
    return " ".join(re.split(r"[\t\r\n]+", text)) if re.search(r"[\t\r\n]", text) else text


def _sides(
    path: Path, number: int, cells: list[str], columns: tuple[str, str]
) -> tuple[tuple[int, int], list[str]]:
    """The columns of source and target, and the first line if it names the columns."""
    wanted, has = " and ".join(columns), f"{path} line {number} has the columns {first_of(cells)}"
    name_them = f"name the columns above (sed -i '1i {columns[0]}\\t{columns[1]}' FILE)"
    try:
        sides = languages.columns_of(cells, *columns)
    except ValueError as error:
        raise UserError(f"{path} line {number} {error}: rename or remove a column") from error
    if sides is not None:
        return sides, cells
    if not number:  # the names of a .parquet
        raise UserError(
            f"{path} has the columns of text {first_of(cells) or 'none'}, not {wanted}: rename two of them, "
            "or set --data.source and --data.target to their names"
        )
    if _names_both([cell.strip('"') for cell in cells], columns):
        raise UserError(f"{path} line {number} names columns in quotes, {_UNQUOTE}")
    tables.check_separator(path, number, cells, lambda names: _names_both(names, columns), _RETAB)
    if languages.is_header(cells):
        raise UserError(
            f"{has}, not {wanted}: set --data.source and --data.target to the names in the table, correct "
            f"the line, or, if it is a pair, {name_them}"
        )
    if len(cells) == 1:
        raise UserError(
            f"{path} line {number} has no tab: write a sentence, a tab and its translation on each line"
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
    except ValueError:  # names one of them twice
        return True
