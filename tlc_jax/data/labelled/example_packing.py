"""Encodes labelled text once: for each set a flat file of ids with offsets and labels, cached by content.

The training set is split by hash into `train` and `tuning`: what is chosen is chosen on `tuning`, never on a
reported set.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from tokenizers import Tokenizer

from tlc_jax.config import DataConfig
from tlc_jax.core.errors import UserError
from tlc_jax.core.progress import stage
from tlc_jax.core.vocabulary import Roles
from tlc_jax.data import cache
from tlc_jax.data.labelled import linear
from tlc_jax.data.labelled.data_sets import open_labelled
from tlc_jax.data.labelled.example_rows import EncodedRow, encode_examples
from tlc_jax.data.labelled.hash_split import chosen, hashes, joined
from tlc_jax.data.labelled.labelled_source import TRAIN, TUNING, Examples, LabelledSource
from tlc_jax.data.labelled.packed_examples import FORMAT, PackedExamples, types_file
from tlc_jax.data.lossless import normalizer_of
from tlc_jax.data.provenance import quotes
from tlc_jax.data.recorded_roles import check_pad, recorded
from tlc_jax.data.special_tokens_map import write_tokenizer
from tlc_jax.data.tokenizer import encoder_tokenizer
from tlc_jax.storage.paths import writing


def prepare_examples(
    config: DataConfig,
    vocab_size: int,
    console: Console,
    max_examples: int | None = None,
    label_names: Sequence[str] | None = None,
    *,
    pretrained: bool = False,
    pad: int | None = None,
) -> PackedExamples:
    """The encoded examples of a task, from the cache if the same were encoded before.

    The tokenizer is used as it is, also if it loses text, which the console says: it is nearly always that of
    a `pretrained` model, whose embedding may have rows to spare. Its pad must be `pad`.

    At most `max_examples` are trained on, by the baselines too; a larger number adds to the same examples.
    With the `label_names` of a model: the sets it is evaluated on or predicts (see `open_labelled`).
    """
    if config.tokenizer is None:
        raise UserError(
            "a classification task trains no tokenizer: give --init-from a pretrained run or --data.tokenizer"
        )
    exact = label_names is None and not pretrained
    tokenizer, roles, digest = encoder_tokenizer(config.tokenizer, vocab_size, lossless=False, exact=exact)
    check_pad(roles, pad, f"the tokenizer {config.tokenizer}")
    if kinds := normalizer_of(tokenizer):
        console.print(f"note: the tokenizer changes text before it is encoded ({kinds})")
    source = open_labelled(config, label_names)
    depends_on = {
        "format": FORMAT,
        "source": source.identity(),
        "name": config.name,
        "length": config.sequence_length,
        "tuning": config.held_out,
        "seed": config.seed,
        "tokenizer": digest,
        "max_examples": max_examples,
        "cut": "families",
        "labels": source.label_names,
        "sets": [source.trains, source.reported, source.unlabelled],
        **recorded(roles),
    }

    def build(folder: Path) -> dict[str, Any]:
        write_tokenizer(folder, tokenizer, roles)
        fields = _encode(source, tokenizer, roles, config, max_examples, folder, console)
        return {"format": FORMAT, "vocab_size": vocab_size, **recorded(roles), **fields}

    return PackedExamples.open(cache.prepare(config.cache_dir, depends_on, build))


def _encode(
    source: LabelledSource,
    tokenizer: Tokenizer,
    roles: Roles,
    config: DataConfig,
    max_examples: int | None,
    folder: Path,
    console: Console,
) -> dict[str, Any]:
    others = (*source.reported, *source.unlabelled)
    with stage(console, f"Reading {source.description}", None, "examples") as advance:
        splits = {name: source.read(name) for name in ((TRAIN,) if source.trains else ()) + others}
        advance(sum(len(examples.labels) for examples in splits.values()))
    trained_on = _trained_on(splits) if source.trains else {}
    contradicting = {name: _contradicting(splits[name]) for name in splits if name not in source.unlabelled}
    if source.trains:
        splits = _split(splits[TRAIN], config, max_examples) | {name: splits[name] for name in others}
    truncated = {}
    with stage(console, "Tokenising", sum(len(s.labels) for s in splits.values()), "examples") as advance:
        for name, examples in splits.items():
            length = config.sequence_length
            rows = list(encode_examples(examples.texts, tokenizer, roles, length, advance))
            truncated[name] = sum(row.truncated for row in rows)
            _write(rows, examples.labels, folder, name)
    baselines: dict[str, dict[str, float]] = {}
    if source.trains:
        with stage(console, "Fitting the linear baseline", None, "examples") as advance:
            predicted = linear.baselines(splits[TRAIN], {name: splits[name] for name in (TUNING, *others)})
            advance(len(splits[TRAIN].labels))
        for name, kinds in predicted.items():
            for kind, classes in kinds.items():
                _save(folder / f"{name}.{kind}.npy", classes.astype(np.int32))
        baselines = {
            name: {
                f"{kind}_accuracy": float(np.mean(classes == splits[name].labels))
                for kind, classes in kinds.items()
            }
            for name, kinds in predicted.items()
            if name not in source.unlabelled
        }
    return {
        "source": source.description,
        "origin": source.origin,
        "prepared_data": quotes(source.files),
        "seed": config.seed,
        "tuning": config.held_out,
        "sequence_length": config.sequence_length,
        "label_names": source.label_names,
        "metric": source.metric,
        "reported": source.reported,
        "unlabelled": source.unlabelled,
        "texts_per_example": max(len(each.texts[0]) for each in splits.values()),
        "examples": {name: len(examples.labels) for name, examples in splits.items()},
        "truncated": truncated,
        "contradicting": contradicting,
        "trained_on": trained_on,
        "notes": source.notes,
        "baselines": baselines,
    }


def _contradicting(examples: Examples) -> int:
    """The number of different texts with more than one label."""
    first: dict[tuple[str, ...], int] = {}
    return len(
        {
            texts
            for texts, label in zip(examples.texts, examples.labels, strict=True)
            if first.setdefault(texts, label) != label
        }
    )


def _trained_on(splits: dict[str, Examples]) -> dict[str, int]:
    """For each other set the number of its examples whose texts are in the training table too."""
    texts = set(splits[TRAIN].texts)
    return {
        name: sum(example in texts for example in examples.texts)
        for name, examples in splits.items()
        if name != TRAIN
    }


def _split(examples: Examples, config: DataConfig, max_examples: int | None) -> dict[str, Examples]:
    """`train`, in the order of hashes, so that its first examples are a random sample; and `tuning`."""
    texts = joined(examples.texts)
    order = np.argsort(hashes(texts, config.seed), kind="stable")
    tuning = chosen(texts, config.held_out, config.seed)[order]
    if tuning.all() or not tuning.any():
        raise UserError(
            f"{len(examples.labels)} examples are too few to keep a share of {config.held_out} for tuning: "
            "change --data.held-out"
        )

    def take(indices: np.ndarray) -> Examples:
        return Examples([examples.texts[i] for i in indices], [examples.labels[i] for i in indices])

    return {TRAIN: take(order[~tuning][:max_examples]), TUNING: take(order[tuning])}


def _write(rows: list[EncodedRow], labels: list[int], folder: Path, name: str) -> None:
    _save(folder / f"{name}.ids.npy", np.concatenate([row.ids for row in rows]))
    _save(folder / f"{name}.offsets.npy", np.cumsum([0, *(len(row.ids) for row in rows)]))
    if types := [row.types for row in rows if row.types is not None]:
        _save(folder / types_file(name), np.concatenate(types))
    _save(folder / f"{name}.labels.npy", np.array(labels, np.int32))


def _save(path: Path, array: np.ndarray) -> None:
    with writing(path):
        np.save(path, array)
