"""Packed text on disk (text_packing.py), opened: its manifest is compared with its files."""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from jaxtyping import Float32, UInt
from pydantic import Field
from tokenizers import Tokenizer

from tlc_jax.core.schema import Count, NotRequired, Sha256, TypedDict, record
from tlc_jax.core.vocabulary import Roles
from tlc_jax.data import manifests
from tlc_jax.data.cache import Prepared
from tlc_jax.data.recorded_roles import RecordedRoles, check_roles, roles_in
from tlc_jax.data.token_bytes import token_bytes
from tlc_jax.data.tokenizer import load_tokenizer, trimmed_tokenizer

FORMAT = 3
SPLITS = ("train", "held_out")
TOKEN_BYTES = "token_bytes.npy"
"""How many bytes each token stands for, of a tokenizer that loses text."""

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
class TextManifest(TypedDict):
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
    roles: NotRequired[RecordedRoles]


@dataclass(frozen=True)
class PackedText(Prepared):
    """Rows of ids on disk: `rows(split)` maps them."""

    schema: ClassVar[type] = TextManifest
    formats: ClassVar[range] = range(FORMAT + 1)

    def rows(self, split: str) -> Rows:
        rows, length = self.manifest["rows"][split], self.manifest["sequence_length"]
        with manifests.naming(self.folder):
            ids = manifests.open_ids(self.folder, f"{split}.bin", self.manifest["dtype"], rows * length)
        return self.ids(ids.reshape(rows, length))

    def stored_ids(self, name: str) -> tuple[Rows, ...]:
        return (dataclasses.replace(self, vocabulary=None).rows(name),)

    def tokenizer(self) -> Tokenizer:
        if self.vocabulary is not None:
            return trimmed_tokenizer(self.vocabulary)
        return load_tokenizer(self.folder / "tokenizer.json", self.manifest["vocab_size"])

    @functools.cached_property
    def roles(self) -> Roles:
        return roles_in(self.manifest)

    def token_bytes(self) -> Float32[np.ndarray, "vocab"]:
        """How many bytes of text each token stands for (data/token_bytes.py)."""
        if TOKEN_BYTES not in self.manifest["files"]:
            return token_bytes(self.tokenizer(), self.roles)
        with manifests.naming(self.folder):
            size = self.roles.vocab_size if self.vocabulary is None else None
            sizes = manifests.open_array(self.folder, TOKEN_BYTES, ("float32",), size)
            if not (np.isfinite(sizes).all() and (sizes >= 0).all()):
                raise ValueError(f"{TOKEN_BYTES}: it holds numbers that are no sizes")
            return np.asarray(sizes if self.vocabulary is None else sizes[self.vocabulary.kept])

    def check(self) -> None:
        vocab_size = self.manifest["vocab_size"]
        check_roles(self.manifest)
        for split in SPLITS:
            if (largest := int(self.rows(split).max())) >= vocab_size:
                raise ValueError(f"{split}.bin: the id {largest:,} is not below vocab_size {vocab_size:,}")
