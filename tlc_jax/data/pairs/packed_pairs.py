"""Packed sentence pairs on disk (see pair_packing.py): flat files of ids with offsets, and the lines of what
is evaluated on; checked when they are opened."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from tlc_jax.core.errors import UserError
from tlc_jax.core.printable import printable
from tlc_jax.data import cache, manifests
from tlc_jax.data.pairs.pair_batches import EncodedPairs, Shape, Stretch
from tlc_jax.data.pairs.pair_sources import TRAIN, Pair
from tlc_jax.data.tokenizer import TRANSLATION, load_tokenizer
from tlc_jax.storage.untrusted import file_inside

FORMAT = 3
READABLE = (2, 3)  # they differ in which tables are refused
SIDES = ("source", "target")


@dataclass(frozen=True)
class PackedPairs:
    """Encoded sets on disk: `train`, and those that are evaluated on. `manifest` says what they are."""

    folder: Path
    manifest: dict[str, Any]

    def pairs(self, name: str) -> EncodedPairs:
        arrays = []
        rows, dtype = self.manifest["pairs"][name], self.manifest["dtype"]
        with manifests.naming(self.folder):
            for side in SIDES:
                size = self.manifest["tokens"][name][side]
                arrays.append(manifests.open_ids(self.folder, f"{name}.{side}.bin", dtype, size))
                offsets = f"{name}.{side}.offsets.npy"
                arrays.append(manifests.open_array(self.folder, offsets, ("int64",), rows + 1))
        return EncodedPairs(*arrays)

    def texts(self, name: str) -> list[Pair]:
        """The lines of an evaluation set as they were read."""
        with manifests.naming(self.folder):
            paths = [file_inside(self.folder, f"{name}.{side}.txt") for side in SIDES]
            sides = [path.read_bytes().decode("utf-8").split("\n")[:-1] for path in paths]
            if any(len(side) != self.manifest["pairs"][name] for side in sides):
                raise ValueError(f"{name}: there are {[*map(len, sides)]} lines of its texts")
        return list(zip(*sides, strict=True))

    def stretches(self) -> list[Stretch]:
        """The sources of the training pairs, by their shares of an epoch of as many pairs as there are."""
        own = [source for source in self.manifest["sources"] if source["pairs"]]
        total, given = sum(source["pairs"] for source in own), [source["share"] for source in own]
        found, start = [], 0
        for source in own:
            size, per_epoch = source["pairs"], source["pairs"]
            if source["share"] is not None:
                per_epoch = max(1, round(total * source["share"] / sum(given)))
            found.append(Stretch(start, size, per_epoch))
            start += size
        return found

    def shapes(self) -> list[Shape]:
        """Those of batches (see `choose_shapes`)."""
        return [(source, target) for source, target in self.manifest["shapes"]]

    def tokenizer(self) -> Tokenizer:
        return load_tokenizer(self.folder / "tokenizer.json", self.manifest["vocab_size"], TRANSLATION)


def open_packed_pairs(folder: Path) -> PackedPairs:
    """Opens packed pairs after checking every byte, and that they are what a task can work with; UserError
    names the file or the field."""
    packed = PackedPairs(folder, cache.open_sealed(folder))
    if (there := packed.manifest.get("format")) not in READABLE:
        raise UserError(
            f"{folder} holds pairs in format {printable(there)}, and this version reads {FORMAT}: use the "
            "version that packed them, or begin again in a new --workdir (translate still reads the old run)"
        )
    with manifests.naming(folder):
        _check(packed)
    return packed


def _check(packed: PackedPairs) -> None:
    """ValueError where the manifest and the arrays do not go together."""
    manifest = manifests.check_manifest(packed.manifest, manifests.PairsManifest, "pairs")
    sets, longest = {TRAIN, *manifest["validation"], *manifest["test"]}, manifest["sequence_length"]
    for field in ("pairs", "tokens"):
        if manifest[field].keys() != sets:
            raise ValueError(f"{field}: they are of {sorted(manifest[field])}, not of {sorted(sets)}")
    if any(tokens.keys() != set(SIDES) for tokens in manifest["tokens"].values()):
        raise ValueError(f"tokens: each set has those of {' and '.join(SIDES)}")
    if sum(source["pairs"] for source in manifest["sources"]) != manifest["pairs"][TRAIN]:
        raise ValueError(f"sources: they are not the {manifest['pairs'][TRAIN]:,} pairs to train on")
    if manifest["shapes"][0] != [longest, longest] or max(map(max, manifest["shapes"])) > longest:
        raise ValueError(
            f"shapes: the first must hold all of {longest} ids on both sides, and be the largest"
        )
    for name in sets:
        own = packed.pairs(name)
        for side, ids, offsets in (
            ("source", own.source_ids, own.source_offsets),
            ("target", own.target_ids, own.target_offsets),
        ):
            manifests.check_ids(f"{name} {side}", ids, offsets, manifest["vocab_size"], longest)
