"""Text becomes rows of token ids, once: memory-mapped files with a manifest, cached by content.

A row is <s> and sequence_length - 1 ids of the running text (fairseq's block mode 'none'): each
line ends with </s>, each document with one more. Only the last row of a split has <pad>.
Documents that occur twice are kept once; whole documents are held out, chosen by hash.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt
from rich.console import Console
from tokenizers import Tokenizer

from tlc_jax.config import DataConfig
from tlc_jax.core import sealed
from tlc_jax.core.errors import UserError
from tlc_jax.core.place import local_folder, locate, new_folder
from tlc_jax.core.progress import stage
from tlc_jax.core.vocabulary import BOS, PAD
from tlc_jax.data import ngrams, store
from tlc_jax.data.sources import Source, hash64, open_source
from tlc_jax.data.tokenizer import encode_lines, load_tokenizer, train_tokenizer

FORMAT = 2
SPLITS = ("train", "held_out")
TOKENIZER_SAMPLE = 32_000_000  # characters that a tokenizer is trained on
_CHUNK = 2_000_000  # characters encoded at a time

Rows = UInt[np.ndarray, "rows length"]


@dataclass(frozen=True)
class PackedText:
    """Rows of ids on disk. `manifest` says what they are; `rows(split)` maps them."""

    folder: Path
    manifest: dict[str, Any]

    def rows(self, split: str) -> Rows:
        shape = (self.manifest["rows"][split], self.manifest["sequence_length"])
        return np.memmap(self.folder / f"{split}.bin", self.manifest["dtype"], mode="r", shape=shape)

    def tokenizer(self) -> Tokenizer:
        return load_tokenizer(self.folder / "tokenizer.json", self.manifest["vocab_size"])


def open_packed(folder: Path) -> PackedText:
    """Opens packed text after checking every byte; a damaged or changed file is refused by name."""
    return PackedText(folder, store.open_sealed(folder))


def prepare(config: DataConfig, vocab_size: int, console: Console) -> PackedText:
    """The packed text of a source, from the cache if equal text was packed before."""
    source = open_source(config)
    identity = _identity(source, config, vocab_size)
    folder = local_folder(config.cache_dir, "a --data.cache-dir") / identity[:20]
    if not folder.exists():
        _pack(source, config, vocab_size, identity, folder, console)
    return open_packed(folder)


def _identity(source: Source, config: DataConfig, vocab_size: int) -> str:
    tokenizer = "trained"
    if config.tokenizer is not None:
        load_tokenizer(config.tokenizer, vocab_size)  # a wrong one is refused before the text is read
        tokenizer = sealed.sha256(locate(config.tokenizer).expanduser())
    parts = {
        "format": FORMAT,
        "source": source.identity(),
        "field": config.text_field,
        "length": config.sequence_length,
        "held_out": config.held_out,
        "seed": config.seed,
        "tokenizer": tokenizer,
        "vocab_size": vocab_size,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


# --- packing ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Survey:
    """What one reading of the source found, by document: its split (-1: a duplicate) and characters."""

    hashes: np.ndarray
    split: np.ndarray
    characters: np.ndarray

    def characters_kept(self) -> int:
        return int(self.characters[self.split >= 0].sum())


def _pack(
    source: Source, config: DataConfig, vocab_size: int, identity: str, folder: Path, console: Console
) -> None:
    with new_folder(folder) as temporary:
        survey = _survey(source, config, console)
        tokenizer = _tokenizer(source, survey, config, vocab_size, console)
        tokenizer.save(str(temporary / "tokenizer.json"))
        dtype = np.dtype(np.uint16 if vocab_size <= 2**16 else np.uint32)
        manifest = {
            "format": FORMAT,
            "identity": identity,
            "source": source.description,
            "origin": source.origin,
            "seed": config.seed,
            "held_out": config.held_out,
            "sequence_length": config.sequence_length,
            "vocab_size": vocab_size,
            "dtype": dtype.name,
            "tokenizer_sha256": sealed.sha256(temporary / "tokenizer.json"),
            "documents": {
                "read": len(survey.split),
                "duplicates": int((survey.split < 0).sum()),
                **{split: int((survey.split == i).sum()) for i, split in enumerate(SPLITS)},
            },
            **_write_rows(source, survey, tokenizer, config, dtype, temporary, console),
        }
        packed = PackedText(temporary, manifest)
        with stage(console, "Counting unigrams and bigrams", None, "tokens") as advance:
            manifest["baselines"] = ngrams.perplexities(
                packed.rows("train"), packed.rows("held_out"), vocab_size
            )
            advance(manifest["baselines"]["counted_tokens"])
        sealed.seal(temporary, manifest)


def _documents(source: Source) -> Iterator[str]:
    return (document for document in source.documents() if document.strip())


def _survey(source: Source, config: DataConfig, console: Console) -> _Survey:
    """Reads every document once: drops those seen before, holds out those with the lowest hashes."""
    hashes, characters = [], []
    with stage(console, f"Reading {source.name}", None, "documents") as advance:
        for document in _documents(source):
            hashes.append(hash64(document, config.seed))
            characters.append(len(document))
            advance(1)
    values = np.array(hashes, np.uint64)
    unique, first = np.unique(values, return_index=True)  # sorted: the lowest hashes come first
    if len(unique) < 2:
        raise UserError(
            f"{source.name} holds {len(unique)} document(s), at least 2 are needed, one to hold out: "
            "separate documents by a blank line (.txt) or give one a line (.jsonl)"
        )
    held_out = min(max(1, round(config.held_out * len(unique))), len(unique) - 1)
    split = np.full(len(values), -1, np.int8)
    split[first[held_out:]] = SPLITS.index("train")
    split[first[:held_out]] = SPLITS.index("held_out")
    return _Survey(values, split, np.array(characters, np.int64))


def _tokenizer(
    source: Source, survey: _Survey, config: DataConfig, vocab_size: int, console: Console
) -> Tokenizer:
    if config.tokenizer is not None:
        return load_tokenizer(config.tokenizer, vocab_size)
    training = np.flatnonzero(survey.split == SPLITS.index("train"))
    order = training[np.argsort(survey.hashes[training])]  # a random order, the same on any machine
    before = np.cumsum(survey.characters[order]) - survey.characters[order]
    sample = np.zeros(len(survey.split), bool)
    sample[order[before < TOKENIZER_SAMPLE]] = True

    with stage(
        console, "Training the tokenizer", int(survey.characters[sample].sum()), "characters"
    ) as advance:

        def texts() -> Iterator[str]:
            for chosen, document in zip(sample, _documents(source), strict=True):
                if chosen:
                    advance(len(document))
                    yield from document.split("\n")

        return train_tokenizer(texts(), vocab_size)


def _write_rows(
    source: Source,
    survey: _Survey,
    tokenizer: Tokenizer,
    config: DataConfig,
    dtype: np.dtype,
    folder: Path,
    console: Console,
) -> dict[str, Any]:
    writers = [_RowWriter(folder / f"{split}.bin", config.sequence_length, dtype) for split in SPLITS]

    with stage(console, "Tokenising", survey.characters_kept(), "characters") as advance:

        def flush(lines: list[str], splits: list[int]) -> None:
            encoded = encode_lines(tokenizer, lines, dtype)
            for i, writer in enumerate(writers):
                writer.write([ids for ids, split in zip(encoded, splits, strict=True) if split == i])
            advance(sum(map(len, lines)))

        lines: list[str] = []
        splits: list[int] = []
        size = 0
        for split, document in zip(survey.split.tolist(), _documents(source), strict=True):
            if split < 0:
                continue
            new = [*(line for line in document.split("\n") if line.strip()), ""]  # "" becomes the last </s>
            lines += new
            splits += [split] * len(new)
            size += len(document)
            if size > _CHUNK:
                flush(lines, splits)
                lines, splits, size = [], [], 0
        flush(lines, splits)
    for writer in writers:
        writer.close()
    return {
        "tokens": {split: writer.tokens for split, writer in zip(SPLITS, writers, strict=True)},
        "rows": {split: writer.rows for split, writer in zip(SPLITS, writers, strict=True)},
    }


class _RowWriter:
    """Fills rows of `length` ids, each led by <s>, from pieces of running text."""

    def __init__(self, path: Path, length: int, dtype: np.dtype):
        self._file = path.open("wb")
        self._body = length - 1
        self._rest = np.zeros(0, dtype)
        self.tokens = self.rows = 0

    def write(self, pieces: list[np.ndarray]) -> None:
        text = np.concatenate([self._rest, *pieces])
        whole = len(text) // self._body * self._body
        self._emit(text[:whole])
        self._rest = text[whole:]

    def close(self) -> None:
        if len(self._rest):
            self.tokens -= self._body - len(self._rest)
            self._emit(np.pad(self._rest, (0, self._body - len(self._rest)), constant_values=PAD))
        self._file.close()

    def _emit(self, ids: np.ndarray) -> None:
        body = ids.reshape(-1, self._body)
        np.insert(body, 0, BOS, axis=1).tofile(self._file)
        self.tokens += body.size
        self.rows += len(body)
