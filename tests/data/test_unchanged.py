"""Data of commit d21cde9: the same batches for each (seed, step), the same identities and files. A run that
is resumed must see what it would have seen, and prepared data must be found in the cache again."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from tests.builders import documents, sentence_pairs, write_tables
from tlc_jax.config import DataConfig
from tlc_jax.config.data import PairsConfig
from tlc_jax.data.bucketing import Stretch
from tlc_jax.data.labelled.example_batches import example_buckets, gather
from tlc_jax.data.labelled.example_packing import prepare_examples
from tlc_jax.data.labelled.packed_examples import EncodedExamples
from tlc_jax.data.pairs.pair_batches import EncodedPairs, choose_shapes, pair_buckets
from tlc_jax.data.pairs.pair_batches import gather as gather_pairs
from tlc_jax.data.pairs.pair_packing import prepare_pairs
from tlc_jax.data.text.text_packing import prepare_text
from tlc_jax.data.tokenizer import train_tokenizer

_OF_LIBRARIES = ("tokenizer.json", ".linear.npy")


def digest(arrays: list[np.ndarray]) -> str:
    state = hashlib.sha256()
    for array in arrays:
        state.update(f"{array.dtype} {array.shape}".encode() + np.ascontiguousarray(array).tobytes())
    return state.hexdigest()[:16]


def examples(count: int, seed: int) -> EncodedExamples:
    rng = np.random.default_rng(seed)
    sizes = np.clip(rng.lognormal(2.7, 0.6, count).astype(int), 3, 90)
    ids = rng.integers(4, 5000, sizes.sum()).astype(np.uint16)
    return EncodedExamples(ids, np.cumsum([0, *sizes]), (np.arange(count) % 3).astype(np.int32))


@pytest.mark.parametrize(
    ("count", "batch_size", "seed", "expected"),
    [
        (500, 16, 0, "b725db7c62aab9ac"),
        (500, 7, 3, "ecd85456c088a6c5"),
        (9, 8, 1, "7707d3040b080327"),
        (3, 8, 0, "cb5ea83d51934904"),
    ],
)
def test_batches_of_examples(count: int, batch_size: int, seed: int, expected: str) -> None:
    data = examples(count, seed)
    buckets = example_buckets(data, batch_size, 100)
    arrays = []
    for step in range(3 * len(buckets.plan())):
        batch = gather(data, *buckets.of_step(seed, step))
        arrays += [batch["tokens"], batch["targets"], batch["weights"]]
    for (length,), indices in buckets.plan():
        arrays += [np.array(length), indices]
    assert digest(arrays) == expected


@pytest.mark.parametrize(
    ("shares", "most", "tokens", "seed", "expected"),
    [
        ([(0, 400, 400)], 32, 600, 0, "4798b7b68e3a4ec7"),
        ([(0, 100, 200), (100, 300, 170)], 8, 500, 5, "78b8a22122200843"),
        ([(0, 400, 400)], 1, 300, 2, "23526ceb63932886"),
    ],
)
def test_batches_of_pairs(shares: list, most: int, tokens: int, seed: int, expected: str) -> None:
    rng = np.random.default_rng(seed)
    source = rng.lognormal(2.6, 0.5, 400)
    lengths = np.stack([source, source * rng.normal(1.15, 0.15, 400).clip(0.6, 2)], axis=1)
    lengths = np.clip(lengths.astype(int), 2, 60)
    sides = []
    for side in (0, 1):
        sides += [rng.integers(3, 900, lengths[:, side].sum()), np.cumsum([0, *lengths[:, side]])]
    pairs, stretches = EncodedPairs(*sides), [Stretch(*share) for share in shares]
    shapes = choose_shapes(lengths, np.ones(400), 60, most)
    buckets = pair_buckets(pairs, shapes, tokens, 4, stretches)
    arrays = [np.array(shapes)]
    for step in range(3 * len(buckets.epoch(seed, 0))):
        batch = gather_pairs(pairs, *buckets.of_step(seed, step))
        arrays += [batch["source"], batch["target"]]
    plan = buckets.plan()
    numbers = [buckets.shapes.index(shape) for shape, _ in plan]
    arrays += [np.array(numbers), *(indices for _, indices in plan)]
    assert digest(arrays) == expected


@pytest.fixture(scope="module")
def console() -> Console:
    return Console(quiet=True)


def files(manifest: dict) -> str:
    """Digest of the files that batches are made of: not of those that another version of a library may write
    in another way."""
    entries = [entry for entry in sorted(manifest["files"].items()) if not entry[0].endswith(_OF_LIBRARIES)]
    contents = [f"{name} {entry['sha256']}" for name, entry in entries]
    return hashlib.sha256("\n".join(contents).encode()).hexdigest()[:16]


def test_prepared_text(tmp_path: Path, console: Console) -> None:
    (tmp_path / "text.txt").write_text("\n\n".join(documents(60)))
    config = DataConfig(dir=str(tmp_path / "text.txt"), sequence_length=32, cache_dir=str(tmp_path / "cache"))
    manifest = prepare_text(config, 300, console).manifest
    assert (manifest["identity"][:16], files(manifest)) == ("3ba62157f1999d9b", "7f007074c3ca235d")


def test_prepared_examples(tmp_path: Path, console: Console) -> None:
    tokenizer = tmp_path / "tokenizer.json"
    train_tokenizer(documents(60), 300).save(str(tokenizer))
    config = DataConfig(
        dir=str(write_tables(tmp_path / "tables", 120)),
        tokenizer=str(tokenizer),
        sequence_length=32,
        held_out=0.1,
        cache_dir=str(tmp_path / "cache"),
    )
    manifest = prepare_examples(config, 300, console).manifest
    assert (manifest["identity"][:16], files(manifest)) == ("72faa4af8b525cfb", "e28299784fe0a0d2")


def test_prepared_pairs(tmp_path: Path, console: Console) -> None:
    for name, seed in (("train", 0), ("validation", 1)):
        rows = [f"{source}\t{target}\n" for source, target in sentence_pairs(200, seed)]
        (tmp_path / f"{name}.tsv").write_text("".join(rows))
    config = PairsConfig(
        train="train.tsv",
        validation="validation.tsv",
        test="",
        dir=str(tmp_path),
        sequence_length=32,
        packing=False,
        cache_dir=str(tmp_path / "cache"),
    )
    manifest = prepare_pairs(config, 300, console).manifest
    assert (manifest["identity"][:16], files(manifest)) == ("07d7ac077e454498", "087342668052575e")
