"""Packs running text into rows of token ids, once: memory-mapped files, cached by content.

A row is <s> and sequence_length - 1 ids of the running text (fairseq's block mode 'none'): each line ends
with </s>, each document with another one. Only the last row of a split has <pad>. Another tokenizer has other
tokens in these roles, such as [CLS], [SEP] and [PAD]. Documents that occur twice
are kept once; whole documents are held out, chosen by hash.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from tokenizers import Tokenizer

from tlc_jax.config import DataConfig
from tlc_jax.core.errors import UserError
from tlc_jax.core.printable import counted
from tlc_jax.core.progress import stage
from tlc_jax.core.vocabulary import Roles, roberta_roles
from tlc_jax.data import cache
from tlc_jax.data.fingerprints import hash64
from tlc_jax.data.lossless import loss, normalizer_of
from tlc_jax.data.manifests import id_dtype
from tlc_jax.data.provenance import quotes
from tlc_jax.data.recorded_roles import check_pad, recorded
from tlc_jax.data.special_tokens_map import write_tokenizer
from tlc_jax.data.text.packed_text import FORMAT, SPLITS, TOKEN_BYTES, PackedText
from tlc_jax.data.text.sources import open_source
from tlc_jax.data.text.text_source import TextSource
from tlc_jax.data.text_ids import encode_lines
from tlc_jax.data.token_bytes import MeasuredBytes
from tlc_jax.data.tokenizer import encoder_tokenizer, train_tokenizer
from tlc_jax.storage import sealed
from tlc_jax.storage.paths import writing

TOKENIZER_SAMPLE = 32_000_000  # characters that a tokenizer is trained on
_CHUNK = 2_000_000  # characters encoded at a time


def prepare_text(
    config: DataConfig,
    vocab_size: int,
    console: Console,
    *,
    to_train: bool = True,
    pretrained: bool = False,
    pad: int | None = None,
) -> PackedText:
    """The packed text of a source, from the cache if equal text was packed before.

    A tokenizer that loses text is refused if a new model is to be trained on it; that of a `pretrained` model
    is used as it is. So is, before text is read, one without a mask, or whose pad is not `pad`.
    """
    source = open_source(config)
    tokenizer, roles, digest, lossy = None, roberta_roles(vocab_size), "trained", False
    if config.tokenizer is not None:
        new = to_train and not pretrained
        path = config.tokenizer
        tokenizer, roles, digest = encoder_tokenizer(path, vocab_size, lossless=new, exact=new)
        lossy = not new and loss(tokenizer, ()) is not None
        check_pad(roles, pad, f"the tokenizer {path}")
        _check_mask(roles, path)
        if kinds := normalizer_of(tokenizer):
            console.print(f"note: the tokenizer changes text before it is encoded ({kinds})")
    if source.notes:
        console.print(source.description, markup=False)  # names may hold [brackets]
    stamp = source.stamp()
    depends_on = {
        "format": FORMAT,
        "source": source.identity(),
        "field": config.text_field,
        "length": config.sequence_length,
        "held_out": config.held_out,
        "seed": config.seed,
        "tokenizer": digest,
        "vocab_size": vocab_size,
        **recorded(roles),
        **({"token_bytes": "measured"} if lossy else {}),
    }

    def build(folder: Path) -> dict[str, Any]:
        fields = _pack(source, config, vocab_size, tokenizer, roles, lossy, folder, console)
        if source.stamp() != stamp:
            raise UserError(cache.CHANGED.format(source.name))
        return fields

    packed = PackedText.open(cache.prepare(config.cache_dir, depends_on, build))
    if unknown := sum(packed.manifest.get("unknown", {}).values()):
        tokens = sum(packed.manifest["tokens"].values())
        name = packed.tokenizer().id_to_token(packed.roles.unknown)
        console.print(
            f"unknown: {unknown:,} of {tokens:,} tokens ({unknown / tokens:.1%}) are {name}, "
            "which stands for characters that the tokenizer has no token for"
        )
    return packed


def _check_mask(roles: Roles, path: str) -> None:
    if roles.mask is None:
        raise UserError(
            f"the tokenizer {path} has no mask token, which masked language modelling needs: name one as "
            "mask_token in a special_tokens_map.json beside it, or give another --data.tokenizer"
        )


# --- packing ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Survey:
    """Hash, split (-1: a duplicate) and number of characters of each document, after one reading."""

    hashes: np.ndarray
    split: np.ndarray
    characters: np.ndarray

    def characters_kept(self) -> int:
        return int(self.characters[self.split >= 0].sum())


def _pack(
    source: TextSource,
    config: DataConfig,
    vocab_size: int,
    tokenizer: Tokenizer | None,
    roles: Roles,
    lossy: bool,
    folder: Path,
    console: Console,
) -> dict[str, Any]:
    """Write the files into a new folder, and return the fields of its manifest. A `lossy` tokenizer's tokens
    stand for as many bytes as they have in the held-out text."""
    survey = _survey(source, config, console)
    if tokenizer is None:
        tokenizer = _train_tokenizer(source, survey, vocab_size, console)
    write_tokenizer(folder, tokenizer, roles)
    dtype, measured = id_dtype(vocab_size), MeasuredBytes(tokenizer, roles) if lossy else None
    counts = _write_rows(source, survey, tokenizer, roles, measured, config, dtype, folder, console)
    if measured:
        with writing(folder / TOKEN_BYTES):
            np.save(folder / TOKEN_BYTES, measured.sizes())
    return {
        "format": FORMAT,
        "source": source.description,
        "origin": source.origin,
        "prepared_data": quotes(source.files),
        "seed": config.seed,
        "held_out": config.held_out,
        "sequence_length": config.sequence_length,
        "vocab_size": vocab_size,
        "dtype": dtype.name,
        "tokenizer_sha256": sealed.sha256(folder / "tokenizer.json"),
        "documents": {
            "read": len(survey.split),
            "duplicates": int((survey.split < 0).sum()),
            **{split: int((survey.split == i).sum()) for i, split in enumerate(SPLITS)},
        },
        **recorded(roles),
        **counts,
    }


def _documents(source: TextSource) -> Iterator[str]:
    return (document for document in source.documents() if document.strip())


def _survey(source: TextSource, config: DataConfig, console: Console) -> _Survey:
    """Read every document once: mark duplicates, hold out those with the lowest hashes."""
    hashes, characters = array("Q"), array("q")  # there may be many millions of documents
    with stage(console, f"Reading {source.name}", None, "documents") as advance:
        for document in _documents(source):
            hashes.append(hash64(document, config.seed))
            characters.append(len(document))
            advance(1)
    values = np.array(hashes, np.uint64)
    unique, first = np.unique(values, return_index=True)  # sorted: the lowest hashes come first
    if len(unique) < 2:
        raise UserError(
            f"{source.name} holds {counted(len(unique), 'document')}, and at least 2 are needed, one of them "
            "held out: separate documents by blank lines (.txt) or write one a line (.jsonl)"
        )
    held_out = min(max(1, round(config.held_out * len(unique))), len(unique) - 1)
    split = np.full(len(values), -1, np.int8)
    split[first[held_out:]] = SPLITS.index("train")
    split[first[:held_out]] = SPLITS.index("held_out")
    return _Survey(values, split, np.array(characters, np.int64))


def _train_tokenizer(source: TextSource, survey: _Survey, vocab_size: int, console: Console) -> Tokenizer:
    training = np.flatnonzero(survey.split == SPLITS.index("train"))
    order = training[np.argsort(survey.hashes[training])]  # a random order, the same on any machine
    before = np.cumsum(survey.characters[order]) - survey.characters[order]
    sample = np.zeros(len(survey.split), bool)
    sample[order[before < TOKENIZER_SAMPLE]] = True

    with stage(
        console, "Training the tokenizer", int(survey.characters[sample].sum()), "characters"
    ) as advance:

        def texts() -> Iterator[str]:
            for document, chosen in cache.read_again(source.name, _documents(source), sample):
                if chosen:
                    advance(len(document))
                    yield from document.split("\n")

        return train_tokenizer(texts(), vocab_size)


def _lines(source: TextSource, survey: _Survey) -> Iterator[tuple[int, str]]:
    """(split, line) of all documents that are kept; "" after each document becomes its last </s>."""
    for document, split in cache.read_again(source.name, _documents(source), survey.split):
        if split >= 0:
            yield from ((split, line) for line in document.split("\n") if line.strip())
            yield split, ""


def _chunks(lines: Iterator[tuple[int, str]]) -> Iterator[list[tuple[int, str]]]:
    chunk, size = [], 0
    for split, line in lines:
        chunk.append((split, line))
        size += len(line) + 1
        if size > _CHUNK:
            yield chunk
            chunk, size = [], 0
    yield chunk


def _write_rows(
    source: TextSource,
    survey: _Survey,
    tokenizer: Tokenizer,
    roles: Roles,
    measured: MeasuredBytes | None,
    config: DataConfig,
    dtype: np.dtype,
    folder: Path,
    console: Console,
) -> dict[str, Any]:
    length, held_out = config.sequence_length, SPLITS.index("held_out")
    writers = [_RowWriter(folder / f"{split}.bin", length, dtype, roles) for split in SPLITS]
    with stage(console, "Tokenising", survey.characters_kept(), "characters") as advance:
        for chunk in _chunks(_lines(source, survey)):
            encoded = encode_lines(tokenizer, [line for _, line in chunk], dtype, roles)
            if measured:
                measured.add([line for split, line in chunk if split == held_out])
            for i, writer in enumerate(writers):
                writer.write([ids for ids, (split, _) in zip(encoded, chunk, strict=True) if split == i])
            advance(sum(len(line) for _, line in chunk))
    for writer in writers:
        writer.close()
    return {
        count: {split: getattr(writer, count) for split, writer in zip(SPLITS, writers, strict=True)}
        for count in ("tokens", "rows", "unknown")
    }


class _RowWriter:
    """Writes pieces of running text as rows of `length` ids, each with the token of a beginning first."""

    def __init__(self, path: Path, length: int, dtype: np.dtype, roles: Roles):
        self._path, self._file, self._roles = path, path.open("wb"), roles
        self._body = length - 1
        self._rest = np.zeros(0, dtype)
        self.tokens = self.rows = self.unknown = 0

    def write(self, pieces: list[np.ndarray]) -> None:
        text = np.concatenate([self._rest, *pieces])
        whole = len(text) // self._body * self._body
        self._emit(text[:whole])
        self._rest = text[whole:]

    def close(self) -> None:
        if len(self._rest):
            self.tokens -= self._body - len(self._rest)
            missing = self._body - len(self._rest)
            self._emit(np.pad(self._rest, (0, missing), constant_values=self._roles.pad))
        with writing(self._path):
            self._file.close()

    def _emit(self, ids: np.ndarray) -> None:
        body = ids.reshape(-1, self._body)
        with writing(self._path):  # numpy's tofile notices no full disk
            self._file.write(np.insert(body, 0, self._roles.begin, axis=1).tobytes())
        self.tokens += body.size
        self.rows += len(body)
        self.unknown += int(np.count_nonzero(body == self._roles.unknown))
