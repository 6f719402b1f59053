"""Packed text on disk (see packing.py), opened: what its manifest says is compared with its files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from jaxtyping import UInt
from pydantic import Field
from tokenizers import Tokenizer

from tlc_jax.core.schema import Count, NotRequired, Sha256, TypedDict, checked, record
from tlc_jax.data import cache, manifests
from tlc_jax.data.tokenizer import load_tokenizer

FORMAT = 3
SPLITS = ("train", "held_out")

Rows = UInt[np.ndarray, "rows length"]
_Positive = Annotated[int, Field(ge=1, le=2**53)]


@record
class _Rows(TypedDict):
    train: _Positive
    held_out: _Positive


@record
class _Documents(TypedDict):
    train: Count
    held_out: Count


@record
class _Baselines(TypedDict):
    unigram_perplexity: float
    bigram_perplexity: float


@record
class _Manifest(TypedDict):
    """What is relied on of a manifest, whoever wrote it."""

    format: Count
    identity: Sha256
    source: str
    sequence_length: manifests.Size
    vocab_size: manifests.Size
    dtype: str
    tokenizer_sha256: Sha256
    documents: _Documents
    tokens: _Rows
    rows: _Rows
    unknown: NotRequired[_Documents]
    baselines: _Baselines


@dataclass(frozen=True)
class PackedText:
    """Rows of ids on disk. `manifest` says what they are; `rows(split)` maps them."""

    folder: Path
    manifest: dict[str, Any]

    def rows(self, split: str) -> Rows:
        rows, length = self.manifest["rows"][split], self.manifest["sequence_length"]
        with manifests.naming(self.folder):
            ids = manifests.open_ids(self.folder, f"{split}.bin", self.manifest["dtype"], rows * length)
        return ids.reshape(rows, length)

    def tokenizer(self) -> Tokenizer:
        return load_tokenizer(self.folder / "tokenizer.json", self.manifest["vocab_size"])


def open_packed(folder: Path) -> PackedText:
    """Opens packed text after checking every byte, and that it is what a task can work with; UserError names
    the file or the field."""
    packed = PackedText(folder, cache.open_sealed(folder))
    with manifests.naming(folder):
        manifest = checked(packed.manifest, _Manifest)
        if manifest["format"] > FORMAT:
            raise ValueError(f"format: this version reads those up to {FORMAT}, not {manifest['format']}")
        for split in SPLITS:
            if (largest := int(packed.rows(split).max())) >= manifest["vocab_size"]:
                raise ValueError(
                    f"{split}.bin: the id {largest:,} is not below vocab_size {manifest['vocab_size']:,}"
                )
    return packed
