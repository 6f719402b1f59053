"""Where sentence pairs come from: tables, TFDS, message catalogues; in sets to train on, to validate, to
test.

A source is named as the user wrote it; its identity is that of the files it is read from. Pairs are read in
the files' order and are never changed but for line ends.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from etils import epath

from tlc_jax.core.data_config import PairsConfig
from tlc_jax.core.errors import UserError
from tlc_jax.data.sources import identity_of, read_lines
from tlc_jax.data.tfds_source import tfds_examples, tfds_files, tfds_folder, tfds_string

Pair = tuple[str, str]
SUFFIXES = (".tsv", ".tsv.gz", ".tsv.zst")
CATALOGUES = "catalogues"
TRAIN, HELD_OUT = "train", "held_out"
_LANGUAGE = re.compile(r"[a-z]{2}([-_][A-Za-z]{2,4})?")
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
        for suffix in sorted(SUFFIXES, key=len, reverse=True):
            name = name.removesuffix(suffix)
        last = name if ":" in name else name.rpartition("/")[2]
        return re.sub(r"[^\w.-]+", "_", last).strip("_") or "all"


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
        from tlc_jax.data.catalogues import catalogue_files, read_catalogues

        files = catalogue_files(config.source, config.target)
        return PairSource(name, share, files, lambda: read_catalogues(files, config.target))
    if ":" in name:
        return _tfds(name, share, config)
    if config.dir is None:
        raise UserError(
            f"{option} names {name}, but data.dir is not set: give --data.dir the folder that it is in"
        )
    root = Path(config.dir).expanduser()
    paths = sorted(root.glob(name)) if re.search(r"[*?\[]", name) else [root / name]
    if not paths or not all(path.is_file() for path in paths):
        raise UserError(
            f"{option}: there is no {name} in {root}; a source is a table ({', '.join(SUFFIXES)}), a glob, "
            f"a TFDS dataset with its split (wmt14_translate/fr-en:train), or {CATALOGUES}"
        )
    if wrong := [path.name for path in paths if not path.name.endswith(SUFFIXES)]:
        raise UserError(
            f"{option}: {', '.join(wrong)} is none of {', '.join(SUFFIXES)}: convert or rename it"
        )
    columns = (config.source, config.target)
    files = {str(path.relative_to(root)): epath.Path(path) for path in paths}

    def pairs() -> Iterator[Pair]:
        for path in paths:
            yield from _table(path, columns)

    return PairSource(name, share, files, pairs)


def _table(path: Path, columns: tuple[str, str]) -> Iterator[Pair]:
    """Pairs of a table without quotes. A first line that names both languages says which column is which;
    without one the source is first."""
    places = (0, 1)
    for number, line in enumerate(read_lines(path), start=1):
        cells = line.removeprefix("\ufeff").split("\t") if number == 1 else line.split("\t")
        if number == 1 and set(columns) <= set(cells):
            places = (cells.index(columns[0]), cells.index(columns[1]))
            continue
        if number == 1 and len(cells) > 1 and all(_LANGUAGE.fullmatch(cell) for cell in cells):
            raise UserError(
                f"{path} has the columns {', '.join(cells)}, not {' and '.join(columns)}: give --data.source "
                "and --data.target, or take its first line away"
            )
        if not line.strip():
            continue
        if len(cells) <= max(places):
            raise UserError(
                f"{path} line {number} has {len(cells)} column(s) between tabs, {max(places) + 1} are needed"
            )
        yield cells[places[0]], cells[places[1]]


def _tfds(name: str, share: float | None, config: PairsConfig) -> PairSource:
    dataset, _, split = name.partition(":")
    folder = tfds_folder(dataset, config.dir)
    files = tfds_files(dataset, folder, split)

    def pairs() -> Iterator[Pair]:
        for number, example in enumerate(tfds_examples(folder, split)):
            source, target = (
                tfds_string(example, language, number, folder) for language in (config.source, config.target)
            )
            yield source.replace("\n", " "), target.replace("\n", " ")

    return PairSource(name, share, files, pairs)
