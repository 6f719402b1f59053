"""Packed sentence pairs on disk (pair_packing.py), opened and checked: flat files of ids with offsets, and
the lines of the sets that are evaluated on."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np
from jaxtyping import Integer
from pydantic import Field
from tokenizers import Tokenizer

from tlc_jax.core.errors import UserError
from tlc_jax.core.schema import Count, NotRequired, Sha256, TypedDict, record
from tlc_jax.data import manifests
from tlc_jax.data.bucketing import Shape, Stretch
from tlc_jax.data.cache import Prepared
from tlc_jax.data.pairs.pair_batches import EncodedPairs
from tlc_jax.data.pairs.pair_source import TRAIN, Pair
from tlc_jax.data.pairs.row_packing import PackedRows
from tlc_jax.data.tokenizer import TRANSLATION, load_tokenizer, trimmed_tokenizer
from tlc_jax.storage.untrusted import file_inside

UNPACKED, PACKED = 3, 4  # formats without and with rows of several pairs
SIDES = ("source", "target")


@record
class _SourceEntry(TypedDict):
    """One source of training pairs."""

    name: manifests.Text
    share: Annotated[float, Field(gt=0)] | None
    pairs: Count
    rows: NotRequired[Count]


_Shape = Annotated[list[manifests.Size], Field(min_length=2, max_length=2)]


@record
class PairsManifest(TypedDict):
    """What is relied on of a manifest, whoever wrote it."""

    format: Count
    identity: Sha256
    source: manifests.Text
    sources: list[_SourceEntry]
    languages: Annotated[list[manifests.Text], Field(min_length=2, max_length=2)]
    sequence_length: manifests.Size
    vocab_size: manifests.Size
    dtype: str
    tokenizer_sha256: str
    validation: manifests.SetNames
    test: manifests.SetNames
    pairs: dict[str, Count]
    tokens: dict[str, dict[str, Count]]
    truncated: dict[str, Count]
    shapes: Annotated[list[_Shape], Field(min_length=1, max_length=100_000)]
    row_shape: NotRequired[_Shape]


@dataclass(frozen=True)
class PackedPairs(Prepared):
    """Encoded sets on disk: `train`, and those that are evaluated on."""

    schema: ClassVar[type] = PairsManifest
    formats: ClassVar[tuple[int, ...]] = (2, UNPACKED, PACKED)  # 2 refused other tables than 3

    def pairs(self, name: str) -> EncodedPairs:
        arrays = []
        rows, dtype = self.manifest["pairs"][name], self.manifest["dtype"]
        with manifests.naming(self.folder):
            for side in SIDES:
                size = self.manifest["tokens"][name][side]
                arrays.append(self.ids(manifests.open_ids(self.folder, f"{name}.{side}.bin", dtype, size)))
                offsets = f"{name}.{side}.offsets.npy"
                arrays.append(manifests.open_array(self.folder, offsets, ("int64",), rows + 1))
        return EncodedPairs(*arrays)

    def stored_ids(self, name: str) -> tuple[Integer[np.ndarray, "tokens"], ...]:
        pairs = dataclasses.replace(self, vocabulary=None).pairs(name)
        return pairs.source_ids, pairs.target_ids

    def rows(self) -> PackedRows:
        """The rows that training pairs are packed into."""
        with manifests.naming(self.folder):
            arrays = [
                manifests.open_array(self.folder, f"{TRAIN}.rows.{part}.npy", ("int64",), size)
                for part, size in (
                    ("pairs", self.manifest["pairs"][TRAIN]),
                    ("offsets", sum(source["rows"] for source in self.manifest["sources"]) + 1),
                )
            ]
        return PackedRows(*arrays)

    def texts(self, name: str) -> list[Pair]:
        """The lines of an evaluation set as they were read."""
        with manifests.naming(self.folder):
            paths = [file_inside(self.folder, f"{name}.{side}.txt") for side in SIDES]
            sides = [path.read_bytes().decode("utf-8").split("\n")[:-1] for path in paths]
            if any(len(side) != self.manifest["pairs"][name] for side in sides):
                raise ValueError(f"{name}: there are {[*map(len, sides)]} lines of its texts")
        return list(zip(*sides, strict=True))

    def stretches(self, of: Literal["pairs", "rows"], data_share: float = 1.0) -> list[Stretch]:
        """The sources of the training pairs, or of the rows that hold them, with their shares of an epoch
        of as many pairs as there are. With a `data_share` below 1, of that share of each source."""
        sources = [source for source in self.manifest["sources"] if source["pairs"]]
        total = sum(source["pairs"] for source in sources)
        shares = [source["share"] for source in sources]
        stretches, start = [], 0
        for source in sources:
            pairs, size = source["pairs"], source[of]
            if source["share"] is not None:
                pairs = max(1, round(total * source["share"] / sum(shares)))
            per_epoch = pairs if of == "pairs" else max(1, round(pairs * size / source["pairs"]))
            if data_share == 1:
                stretches.append(Stretch(start, size, per_epoch))
            else:
                per_epoch, used = (max(1, round(data_share * count)) for count in (per_epoch, size))
                stretches.append(Stretch(start, size, per_epoch, used))
            start += size
        return stretches

    def shapes(self) -> list[Shape]:
        """The shapes of batches (`choose_shapes`), the most useful first."""
        return [(source, target) for source, target in self.manifest["shapes"]]

    def row_shape(self) -> Shape:
        """Tokens of both sides of a packed row."""
        if "row_shape" not in self.manifest:
            raise UserError(
                f"{self.folder} holds pairs that are not packed into rows, and the config has data.packing: "
                "put the run's own data there"
            )
        source, target = self.manifest["row_shape"]
        return source, target

    def tokenizer(self) -> Tokenizer:
        if self.vocabulary is not None:
            return trimmed_tokenizer(self.vocabulary)
        return load_tokenizer(self.folder / "tokenizer.json", self.manifest["vocab_size"], TRANSLATION)

    def check(self) -> None:
        manifest = self.manifest
        manifests.check_set_names(manifest, "pairs")
        sets, longest = {TRAIN, *manifest["validation"], *manifest["test"]}, manifest["sequence_length"]
        for field in ("pairs", "tokens"):
            if manifest[field].keys() != sets:
                raise ValueError(f"{field}: its sets are {sorted(manifest[field])}, not {sorted(sets)}")
        if any(tokens.keys() != set(SIDES) for tokens in manifest["tokens"].values()):
            raise ValueError(f"tokens: each set needs those of {' and '.join(SIDES)}")
        if sum(source["pairs"] for source in manifest["sources"]) != manifest["pairs"][TRAIN]:
            raise ValueError(f"sources: their pairs are not the {manifest['pairs'][TRAIN]:,} to train on")
        if manifest["shapes"][0] != [longest, longest] or max(map(max, manifest["shapes"])) > longest:
            raise ValueError(
                f"shapes: the first must hold {longest} ids on both sides, and none may be larger"
            )
        for name in sets:
            pairs = self.pairs(name)
            for side, ids, offsets in (
                ("source", pairs.source_ids, pairs.source_offsets),
                ("target", pairs.target_ids, pairs.target_offsets),
            ):
                manifests.check_ids(f"{name} {side}", ids, offsets, manifest["vocab_size"], longest)
        if "row_shape" in manifest:
            if any("rows" not in source for source in manifest["sources"]):
                raise ValueError("sources: each needs the number of its rows")
            self.rows().check(self.pairs(TRAIN).lengths, manifest["row_shape"])
