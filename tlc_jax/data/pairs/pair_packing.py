"""Encodes sentence pairs once: flat memory-mapped files of ids with offsets, cached by content.

Training pairs are cleaned (cleaning.py), and the manifest counts what was left out. Sets that are evaluated
on keep every line, as ids (truncated where too long) and as text. One joint byte-level BPE serves both
languages; each side ends with </s>.
"""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from tokenizers import Tokenizer

from tlc_jax.config.data import PairsConfig
from tlc_jax.core import stopping
from tlc_jax.core.errors import UserError
from tlc_jax.core.progress import stage
from tlc_jax.data import cache
from tlc_jax.data.bucketing import Shape
from tlc_jax.data.fingerprints import hash64
from tlc_jax.data.manifests import id_dtype
from tlc_jax.data.pairs import cleaning
from tlc_jax.data.pairs.packed_pairs import PACKED, SIDES, UNPACKED, PackedPairs
from tlc_jax.data.pairs.pair_batches import choose_shapes
from tlc_jax.data.pairs.pair_source import HELD_OUT, TRAIN, Pair, PairSets, PairSource
from tlc_jax.data.pairs.pair_sources import open_pairs
from tlc_jax.data.pairs.row_packing import pack_rows, row_shape
from tlc_jax.data.provenance import quotes
from tlc_jax.data.text_ids import encode_lines
from tlc_jax.data.tokenizer import TRANSLATION, given_tokenizer, train_tokenizer
from tlc_jax.storage import sealed
from tlc_jax.storage.paths import write_bytes, writing

TOKENIZER_SAMPLE = 32_000_000  # characters that a tokenizer is trained on, of both sides
_CHUNK = 20_000  # pairs encoded at a time


def prepare_pairs(
    config: PairsConfig, vocab_size: int, console: Console, *, to_train: bool = True
) -> PackedPairs:
    """The packed pairs of the sources, from the cache if equal ones were packed before. If no model is to be
    trained, only the evaluation sets are read, unless they have to be held out of the training pairs."""
    to_train = to_train or not config.validation.strip()
    sets, tokenizer = open_pairs(config, to_train), "trained"
    if config.tokenizer is not None:
        # a wrong one is refused before anything is read
        _, tokenizer = given_tokenizer(config.tokenizer, vocab_size, TRANSLATION, lossless=to_train)
    # without packed rows the data are those of older runs, and have their identity
    form = {"format": PACKED, "packing": True} if config.packing else {"format": UNPACKED}
    depends_on = {
        **form,
        "kind": "pairs",
        "sets": sets.identity(),
        "languages": [config.source, config.target],
        "length": config.sequence_length,
        "max_ratio": config.max_ratio,
        "max_shapes": config.max_shapes,
        "held_out": None if sets.validation else config.held_out,
        "seed": config.seed,
        "tokenizer": tokenizer,
        "vocab_size": vocab_size,
    }

    def build(folder: Path) -> dict[str, Any]:
        return {"format": form["format"], **_Packer(sets, config, vocab_size, folder, console).pack()}

    return PackedPairs.open(cache.prepare(config.cache_dir, depends_on, build))


# --- packing ---------------------------------------------------------------------------------------


class _Packer:
    """Reads the sources two or three times: to judge pairs, to train a tokenizer, to encode."""

    def __init__(self, sets: PairSets, config: PairsConfig, vocab_size: int, folder: Path, console: Console):
        self._sets, self._config, self._vocab_size = sets, config, vocab_size
        self._folder, self._console = folder, console

    def pack(self) -> dict[str, Any]:
        config = self._config
        evaluated = {
            source.label: list(source.pairs()) for source in (*self._sets.validation, *self._sets.test)
        }
        for name, pairs in evaluated.items():
            if not pairs:
                raise UserError(f"the evaluation set {name} has no pairs: fill it, or leave it out")
        verdicts, characters = self._judge(evaluated)
        validation = [source.label for source in self._sets.validation]
        if not validation:
            evaluated = {HELD_OUT: self._hold_out(verdicts), **evaluated}
            validation = [HELD_OUT]
        tokenizer = self._tokenizer(verdicts, characters)
        write_bytes(self._folder / "tokenizer.json", tokenizer.to_str(pretty=True).encode())
        writers = {
            name: _Writer(self._folder, name, tokenizer, config.sequence_length)
            for name in (TRAIN, *evaluated)
        }
        size = sum(int((v == cleaning.KEPT).sum()) for v in verdicts) + sum(map(len, evaluated.values()))
        with stage(self._console, "Tokenising", size, "pairs") as advance:
            sources = self._write_train(writers[TRAIN], verdicts, advance)
            truncated = {
                name: self._write_evaluated(writers[name], name, pairs, advance)
                for name, pairs in evaluated.items()
            }
        manifest = {
            "source": self._sets.description,
            "sources": sources,
            "prepared_data": quotes(self._sets.files),
            "languages": [config.source, config.target],
            "seed": config.seed,
            "sequence_length": config.sequence_length,
            "vocab_size": self._vocab_size,
            "dtype": id_dtype(self._vocab_size).name,
            "tokenizer_sha256": sealed.sha256(self._folder / "tokenizer.json"),
            "validation": validation,
            "test": [source.label for source in self._sets.test],
            "pairs": {name: writer.pairs for name, writer in writers.items()},
            "tokens": {name: writer.tokens for name, writer in writers.items()},
            "truncated": truncated,
        }
        lengths, weights = _batched(PackedPairs(self._folder, manifest))
        shapes = choose_shapes(lengths, weights, config.sequence_length, config.max_shapes)
        manifest["shapes"] = shapes
        if config.packing and sources:
            manifest["row_shape"] = self._pack_rows(sources, lengths, weights)
        return manifest

    def _pack_rows(self, sources: list[dict[str, Any]], lengths: np.ndarray, weights: np.ndarray) -> Shape:
        """Pack the pairs of each source into rows, and return their shape."""
        source, target = weights @ lengths
        shape = row_shape(float(source / target), self._config.sequence_length, self._config.row_length)
        pairs, sizes, start = [], [], 0
        with stage(self._console, "Packing", len(lengths), "pairs") as advance:
            for source in sources:
                end = start + source["pairs"]
                rows = pack_rows(lengths[start:end], shape)
                pairs.append(start + rows.pairs)
                sizes.append(np.diff(rows.offsets))
                source["rows"], start = len(rows), end
                advance(source["pairs"])
        arrays = {"pairs": np.concatenate(pairs), "offsets": np.cumsum(np.concatenate([[0], *sizes]))}
        for part, values in arrays.items():
            path = self._folder / f"{TRAIN}.rows.{part}.npy"
            with writing(path):
                np.save(path, values.astype(np.int64))
        return shape

    def _likeness(self, pairs: Iterable[Pair]) -> Iterator[int]:
        """Hashes of what makes sentences alike: of a source, of its target, of the next source ..."""
        for pair in pairs:
            stopping.check()
            for side in pair:
                yield hash64(cleaning.likeness(side), self._config.seed)

    def _judge(self, evaluated: dict[str, list[Pair]]) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Verdicts and numbers of characters of all pairs, an array for each source."""
        if not self._sets.train:
            return [], []
        seed, ratio = self._config.seed, self._config.max_ratio
        # there may be many millions of pairs: lists of numbers would take five times the memory
        verdicts, hashes, sides, characters = array("B"), array("Q"), array("Q"), array("q")
        ends = []
        for train in self._sets.train:
            with stage(self._console, f"Reading {train.name}", None, "pairs") as advance:
                for source, target in train.pairs():
                    verdicts.append(cleaning.verdict(source, target, ratio))
                    hashes.append(hash64(f"{source}\0{target}", seed))
                    sides.extend(self._likeness([(source, target)]))
                    characters.append(len(source) + len(target))
                    advance(1)
            ends.append(len(verdicts))
        judged = cleaning.judge_all(
            np.array(verdicts, np.uint8),
            np.array(hashes, np.uint64),
            _by_pairs(sides),
            _by_pairs(self._likeness(itertools.chain(*evaluated.values()))),
        )
        return np.split(judged, ends[:-1]), np.split(np.array(characters, np.int64), ends[:-1])

    def _hold_out(self, verdicts: list[np.ndarray]) -> list[Pair]:
        """Choose pairs to evaluate on by the hash of the source, and leave out what is like them. Changes the
        verdicts."""
        limit, held_out, sides = int(self._config.held_out * 2**64), [], []
        for source, verdict in zip(self._sets.train, verdicts, strict=True):
            sides.append(_by_pairs(self._likeness(source.pairs())))
            chosen = (sides[-1][:, 0] < limit) & (verdict == cleaning.KEPT)
            held_out += _chosen(source, chosen)
        evaluated = _by_pairs(self._likeness(held_out))
        for side, verdict in zip(sides, verdicts, strict=True):
            cleaning.leave_out(verdict, side, evaluated)
        if not held_out or not any((verdict == cleaning.KEPT).any() for verdict in verdicts):
            raise UserError(
                f"data.held_out {self._config.held_out} holds out {len(held_out)} pairs to evaluate on of "
                f"{self._counts(verdicts)}, and both sets need some: give more pairs, or another share"
            )
        return held_out

    def _counts(self, verdicts: list[np.ndarray]) -> str:
        """How many pairs were read of each source, and how many are kept or left out for which reason."""
        sets = zip(self._sets.train, verdicts, strict=True)
        read = [f"{len(verdict):,} of {source.name}" for source, verdict in sets]
        sizes = {name: sum(int((v == i).sum()) for v in verdicts) for i, name in enumerate(cleaning.REASONS)}
        return f"{', '.join(read)} ({', '.join(f'{name} {size:,}' for name, size in sizes.items() if size)})"

    def _tokenizer(self, verdicts: list[np.ndarray], characters: list[np.ndarray]) -> Tokenizer:
        config = self._config
        if config.tokenizer is not None:
            return given_tokenizer(config.tokenizer, self._vocab_size, TRANSLATION, lossless=False)[0]
        shares = np.array([source.share or 0.0 for source in self._sets.train])
        sizes = np.array(
            [int(c[v == cleaning.KEPT].sum()) for v, c in zip(verdicts, characters, strict=True)]
        )
        if not sizes.sum():
            raise UserError(f"no pair is left to train on of {self._counts(verdicts)}")
        shares = shares / shares.sum() if shares.sum() else sizes / sizes.sum()
        total = int(min(TOKENIZER_SAMPLE, min(sizes[i] / shares[i] for i in np.flatnonzero(sizes))))
        with stage(self._console, "Training the tokenizer", total, "characters") as advance:

            def texts() -> Iterator[str]:
                for i, source in enumerate(self._sets.train):
                    limit = total * shares[i]
                    # the first lines of a file may be alike: take pairs from all of it
                    kept = verdicts[i] == cleaning.KEPT
                    spread = np.random.default_rng(config.seed).random(len(kept)) * sizes[i] < limit
                    for pair in _chosen(source, kept & spread):
                        advance(len(pair[0]) + len(pair[1]))
                        yield from pair

            return train_tokenizer(texts(), self._vocab_size, TRANSLATION)

    def _write_train(
        self, writer: _Writer, verdicts: list[np.ndarray], advance: Callable[[float], None]
    ) -> list[dict[str, Any]]:
        """Write the pairs that are kept, and return the entries of the manifest for their sources."""
        sources = []
        with writer:
            for source, verdict in zip(self._sets.train, verdicts, strict=True):
                before, too_long = writer.pairs, 0
                for chunk in _chunks(_chosen(source, verdict == cleaning.KEPT)):
                    too_long += writer.write(chunk, drop=True)
                    advance(len(chunk))
                counts = {name: int((verdict == i).sum()) for i, name in enumerate(cleaning.REASONS)}
                del counts["kept"]
                entry = {"name": source.name, "share": source.share, "pairs": writer.pairs - before}
                sources.append({**entry, "read": len(verdict), "left out": {**counts, "too long": too_long}})
        for entry in sources:
            if not entry["pairs"]:
                reasons = ", ".join(f"{name} {size:,}" for name, size in entry["left out"].items() if size)
                raise UserError(
                    f"none of the {entry['read']:,} pairs of {entry['name']} is left to train on "
                    f"({reasons or 'it is empty'}): take it out of data.train"
                )
        return sources

    def _write_evaluated(
        self, writer: _Writer, name: str, pairs: list[Pair], advance: Callable[[float], None]
    ) -> int:
        """Write the pairs and their lines, and return how many were truncated."""
        for side, texts in zip(SIDES, zip(*pairs, strict=True), strict=True):
            write_bytes(self._folder / f"{name}.{side}.txt", "".join(f"{t}\n" for t in texts).encode())
        truncated = 0
        with writer:
            for chunk in _chunks(pairs):
                truncated += writer.write(chunk, drop=False)
                advance(len(chunk))
        return truncated


class _Writer:
    """Appends the encoded pairs of one set to flat files; a context that closes them. `pairs` and `tokens`
    count what was written."""

    def __init__(self, folder: Path, name: str, tokenizer: Tokenizer, longest: int):
        self._tokenizer, self._longest = tokenizer, longest
        self._dtype = id_dtype(tokenizer.get_vocab_size())
        self._paths = {side: folder / f"{name}.{side}.bin" for side in SIDES}
        self._lengths = {side: [np.zeros(1, np.int64)] for side in SIDES}
        self.pairs, self.tokens = 0, dict.fromkeys(SIDES, 0)

    def __enter__(self) -> None:
        self._files = {side: path.open("wb") for side, path in self._paths.items()}

    def __exit__(self, *_: object) -> None:
        for side, path in self._paths.items():
            with writing(path):
                self._files[side].close()
            offsets = path.with_suffix(".offsets.npy")
            with writing(offsets):
                np.save(offsets, np.cumsum(np.concatenate(self._lengths[side])))

    def write(self, pairs: Sequence[Pair], *, drop: bool) -> int:
        """Encode and append pairs, and return how many were too long: these are dropped, or else truncated
        before their </s>."""
        sides = [
            encode_lines(self._tokenizer, list(texts), self._dtype, TRANSLATION)
            for texts in zip(*pairs, strict=True)
        ]
        fits = np.array([max(map(len, pair)) <= self._longest for pair in zip(*sides, strict=True)])
        for side, rows in zip(SIDES, sides, strict=True):
            if drop:
                kept = [row for row, fit in zip(rows, fits, strict=True) if fit]
            else:
                kept = [
                    row if len(row) <= self._longest else np.append(row[: self._longest - 1], row[-1:])
                    for row in rows
                ]
            if kept:
                with writing(self._paths[side]):  # numpy's tofile notices no full disk
                    self._files[side].write(np.concatenate(kept).tobytes())
            lengths = np.array([len(row) for row in kept], np.int64)
            self._lengths[side].append(lengths)
            self.tokens[side] += int(lengths.sum())
        self.pairs += int(fits.sum()) if drop else len(fits)
        return int((~fits).sum())


def _batched(packed: PackedPairs) -> tuple[np.ndarray, np.ndarray]:
    """Lengths of the pairs that batches are made of, and how often an epoch takes each: the training pairs,
    or all evaluation sets if there are none."""
    if stretches := packed.stretches("pairs"):
        weights = [np.full(stretch.size, stretch.per_epoch / stretch.size) for stretch in stretches]
        return packed.pairs(TRAIN).lengths, np.concatenate(weights)
    lengths = np.concatenate([packed.pairs(name).lengths for name in packed.manifest["pairs"]])
    return lengths, np.ones(len(lengths))


def _by_pairs(hashes: Iterable[int]) -> np.ndarray:
    """[pairs, 2] from the hashes of sources and targets in turn."""
    return np.array(array("Q", hashes), np.uint64).reshape(-1, 2)


def _chosen(source: PairSource, marks: np.ndarray) -> Iterator[Pair]:
    """The marked pairs of a source that was read before."""
    return (pair for pair, mark in cache.read_again(source.name, source.pairs(), marks) if mark)


def _chunks(pairs: Iterable[Pair]) -> Iterator[list[Pair]]:
    iterator = iter(pairs)
    return iter(lambda: list(itertools.islice(iterator, _CHUNK)), [])
