"""Labelled text becomes ids on disk, once: one flat file of ids a split, with offsets and labels.

An example is `<s> A </s>` or `<s> A </s></s> B </s>` (fairseq sentence_prediction); one that is too long
loses tokens at the end of its longer text. The training set is cut in two by hash:
`train`, and `tuning` to choose on; what is reported is never chosen on.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Integer
from rich.console import Console
from tokenizers import Tokenizer

from tlc_jax.config import DataConfig
from tlc_jax.core import sealed
from tlc_jax.core.errors import UserError
from tlc_jax.core.place import locate, new_folder
from tlc_jax.core.progress import stage
from tlc_jax.core.vocabulary import BOS, EOS
from tlc_jax.data import linear, store
from tlc_jax.data.families import families
from tlc_jax.data.labelled import Examples, LabelledSource, open_labelled
from tlc_jax.data.sources import hash64
from tlc_jax.data.tokenizer import load_tokenizer

FORMAT = 3
_PARTS = ("ids", "offsets", "labels")


@dataclass(frozen=True)
class EncodedExamples:
    """One split: example i is ids[offsets[i]:offsets[i + 1]], of class labels[i]."""

    ids: Integer[np.ndarray, "tokens"]
    offsets: Integer[np.ndarray, "examples_1"]
    labels: Integer[np.ndarray, "examples"]

    @property
    def lengths(self) -> Integer[np.ndarray, "examples"]:
        return np.diff(self.offsets)


@dataclass(frozen=True)
class PackedExamples:
    """Encoded splits on disk: `train`, `tuning` and the reported sets. `manifest` says what they are.

    `baseline` gives the classes that 'majority' or 'linear' says of a set that is not trained on.
    """

    folder: Path
    manifest: dict[str, Any]

    def split(self, name: str) -> EncodedExamples:
        ids, offsets, labels = (np.load(self.folder / f"{name}.{part}.npy", mmap_mode="r") for part in _PARTS)
        return EncodedExamples(ids, offsets, labels)

    def baseline(self, kind: str, name: str) -> Integer[np.ndarray, "examples"]:
        return np.load(self.folder / f"{name}.{kind}.npy")


def open_examples(folder: Path) -> PackedExamples:
    return PackedExamples(folder, store.open_sealed(folder))


def prepare_examples(
    config: DataConfig, vocab_size: int, console: Console, max_examples: int | None = None
) -> PackedExamples:
    """The encoded examples of a task, from the cache if the same were encoded before.

    At most `max_examples` are trained on, by the baselines too; with more of them, these are among them.
    """
    if config.tokenizer is None:
        raise UserError(
            "a classification task trains no tokenizer: give --init-from a pretrained run or --data.tokenizer"
        )
    tokenizer = load_tokenizer(config.tokenizer, vocab_size)
    source = open_labelled(config)
    parts = {
        "format": FORMAT,
        "source": source.identity(),
        "name": config.name,
        "length": config.sequence_length,
        "tuning": config.held_out,
        "seed": config.seed,
        "tokenizer": sealed.sha256(locate(config.tokenizer).expanduser()),
        "max_examples": max_examples,
        "cut": "families",
    }
    identity = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    folder = Path(config.cache_dir).expanduser() / identity[:20]
    if not folder.exists():
        with new_folder(folder) as temporary:
            tokenizer.save(str(temporary / "tokenizer.json"))
            about = _encode(source, tokenizer, config, max_examples, temporary, console)
            sealed.seal(temporary, {"format": FORMAT, "identity": identity, **about})
    return open_examples(folder)


def _encode(
    source: LabelledSource,
    tokenizer: Tokenizer,
    config: DataConfig,
    max_examples: int | None,
    folder: Path,
    console: Console,
) -> dict[str, Any]:
    with stage(console, f"Reading {source.description}", None, "examples") as advance:
        read = {name: source.read(name) for name in ("train", *source.reported)}
        advance(sum(len(examples.labels) for examples in read.values()))
    splits = {**_cut(read["train"], config, max_examples), **{name: read[name] for name in source.reported}}
    truncated = {}
    with stage(console, "Tokenising", sum(len(s.labels) for s in splits.values()), "examples") as advance:
        for name, examples in splits.items():
            truncated[name] = _write(examples, tokenizer, config.sequence_length, folder, name)
            advance(len(examples.labels))
    with stage(console, "Fitting the linear baseline", None, "examples") as advance:
        others = {name: splits[name] for name in ("tuning", *source.reported)}
        said = linear.baselines(splits["train"], others)
        advance(len(splits["train"].labels))
    baselines: dict[str, dict[str, float]] = {}
    for name, kinds in said.items():
        baselines[name] = {}
        for kind, classes in kinds.items():
            np.save(folder / f"{name}.{kind}.npy", classes.astype(np.int32))
            baselines[name][f"{kind}_accuracy"] = float(np.mean(classes == others[name].labels))
    return {
        "source": source.description,
        "origin": source.origin,
        "seed": config.seed,
        "tuning": config.held_out,
        "sequence_length": config.sequence_length,
        "vocab_size": tokenizer.get_vocab_size(),
        "label_names": source.label_names,
        "reported": source.reported,
        "examples": {name: len(examples.labels) for name, examples in splits.items()},
        "truncated": truncated,
        "baselines": baselines,
    }


def _cut(examples: Examples, config: DataConfig, max_examples: int | None) -> dict[str, Examples]:
    """`train`, in an order by hash, so that its beginnings are random samples; and `tuning`, by the hash of
    the longest text that an example stands in, so that no phrase of it stands in a training sentence."""
    texts = ["\0".join(own) for own in examples.texts]
    own, longest = (
        np.array([hash64(text, config.seed) for text in each], np.uint64) for each in (texts, families(texts))
    )
    order = np.argsort(own, kind="stable")
    tuning = longest[order] < np.uint64(config.held_out * 2**64)  # by value: equal texts stay together
    if tuning.all() or not tuning.any():
        raise UserError(
            f"{len(examples.labels)} examples are too few to keep a share of {config.held_out} for tuning: "
            "change --data.held-out"
        )

    def take(places: np.ndarray) -> Examples:
        return Examples([examples.texts[i] for i in places], [examples.labels[i] for i in places])

    return {"train": take(order[~tuning][:max_examples]), "tuning": take(order[tuning])}


def _write(examples: Examples, tokenizer: Tokenizer, length: int, folder: Path, name: str) -> int:
    """Writes one split; returns how many examples were too long."""
    sides = [
        [encoding.ids for encoding in tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]
        for texts in zip(*examples.texts, strict=True)
    ]
    rows, truncated = [], 0
    for parts in zip(*sides, strict=True):
        kept = fit(list(parts), length)
        truncated += sum(map(len, kept)) < sum(map(len, parts))
        row = [BOS, *kept[0], EOS]
        for part in kept[1:]:
            row += [EOS, *part, EOS]
        rows.append(row)
    dtype = np.uint16 if tokenizer.get_vocab_size() <= 2**16 else np.uint32
    np.save(folder / f"{name}.ids.npy", np.concatenate([np.array(row, dtype) for row in rows]))
    np.save(folder / f"{name}.offsets.npy", np.cumsum([0, *map(len, rows)]))
    np.save(folder / f"{name}.labels.npy", np.array(examples.labels, np.int32))
    return truncated


def fit(parts: list[list[int]], length: int) -> list[list[int]]:
    """The texts of an example, cut at the end of the longer one until they fit with their special tokens."""
    room = length - 2 * len(parts)
    if len(parts) == 1:
        return [parts[0][:room]]
    first, second = parts
    kept = min(len(first), max(room - len(second), room // 2))
    return [first[:kept], second[: room - kept]]
