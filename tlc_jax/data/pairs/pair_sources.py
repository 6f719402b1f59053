"""The list of sources of sentence pairs, and the sets of them that a config names: to train on, to validate,
to test."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

from tlc_jax.config.data import PairsConfig
from tlc_jax.core import stopping
from tlc_jax.core.errors import UserError
from tlc_jax.data.pairs.catalogues import catalogue_files, read_catalogues
from tlc_jax.data.pairs.pair_source import HELD_OUT, TRAIN, Pair, PairSets, PairSource
from tlc_jax.data.pairs.pair_tables import pairs_of, table_pairs
from tlc_jax.data.provenance import prepared_folder
from tlc_jax.data.tfds_source import tfds_examples, tfds_files, tfds_folder, tfds_string

RESERVED = {TRAIN, HELD_OUT}  # the sets that are made of the sources in data.train


def _catalogues(option: str, name: str, share: float | None, config: PairsConfig) -> PairSource:
    files = catalogue_files(config.source, config.target)
    return PairSource(name, share, files, functools.partial(read_catalogues, files, config.target))


def _split_of_data_set(option: str, name: str, share: float | None, config: PairsConfig) -> PairSource:
    """DATA_SET:SPLIT, as `prepare` wrote it or else as TFDS did."""
    dataset, _, split = name.partition(":")
    if (root := prepared_folder(dataset, config.dir)) is not None:
        paths = [path for path in sorted(root.iterdir()) if path.name.startswith((f"{split}-", f"{split}."))]
        if not split or not paths:
            raise UserError(f"{option}: {root} has no split {split!r} of {dataset}: name another")
        return pairs_of(paths, root, name, share, config)
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


SOURCES: tuple[tuple[Callable[[str], bool], Callable[..., PairSource]], ...] = (
    (lambda name: name == "catalogues", _catalogues),
    (lambda name: ":" in name, _split_of_data_set),
    (lambda name: True, table_pairs),
)
"""(whether a name is of this kind, how to open it); the first that fits is used."""


def open_pairs(config: PairsConfig, to_train: bool = True) -> PairSets:
    """The sources that `config` names, or only those to evaluate on; UserError where one does not exist, or
    two evaluation sets have the same name."""
    sets = PairSets(
        _open_all("data.train", config.train, config) if to_train else [],
        _open_all("data.validation", config.validation, config),
        _open_all("data.test", config.test, config),
    )
    if len({source.share is None for source in sets.train}) > 1:
        raise UserError(
            f"data.train {config.train} gives some sources a share and others none: give all or none"
        )
    evaluated = [*sets.validation, *sets.test]
    if shared := [source.name for source in evaluated if source.share is not None]:
        raise UserError(f"{', '.join(shared)} is evaluated as a whole: shares are for data.train")
    labels = [source.label for source in evaluated]
    if taken := RESERVED & set(labels):
        raise UserError(
            f"a set to evaluate on is called {', '.join(taken)}, which is the name of a set that is made of "
            "data.train: rename its file"
        )
    if twice := {label for label in labels if labels.count(label) > 1}:
        raise UserError(
            f"two sets to evaluate on are called {', '.join(sorted(twice))}: name each set once, and give "
            "files different names"
        )
    return sets


def _open_all(option: str, text: str, config: PairsConfig) -> list[PairSource]:
    """The sources that an option names, separated by commas."""
    sources = []
    for part in (part.strip() for part in text.split(",")):
        if not part:
            continue
        name, equals, given = (piece.strip() for piece in part.partition("="))
        if not name:
            raise UserError(f"{option}: {part!r} names no source")
        try:
            share = float(given) if equals else None
        except ValueError:
            share = -1.0
        if share is not None and not 0 < share < float("inf"):
            raise UserError(f"{option}: the share of {name} is {given!r}, not a positive number")
        opener = next(opener for fits, opener in SOURCES if fits(name))
        sources.append(opener(option, name, share, config))
    return sources
