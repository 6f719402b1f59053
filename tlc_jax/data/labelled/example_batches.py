"""Batches of labelled examples: buckets of one length, each batch of as many rows."""

from __future__ import annotations

import numpy as np

from tlc_jax.data.bucketing import EMPTY, Buckets, Indices, Shape, gather_rows
from tlc_jax.data.labelled.packed_examples import EncodedExamples

LENGTHS = (16, 32, 64, 128, 256, 512)


def example_buckets(examples: EncodedExamples, batch_size: int, longest: int) -> Buckets:
    """Batches of `batch_size` rows, padded to one of `LENGTHS` or to `longest`, which no example exceeds."""
    lengths = (*(length for length in LENGTHS if length < longest), longest)
    rows = {(length,): batch_size for length in lengths}
    return Buckets(examples.lengths[:, None], rows, shrink_last=True)


def gather(examples: EncodedExamples, shape: Shape, indices: Indices) -> dict[str, np.ndarray]:
    """`tokens` [batch, length] int32, padded; `targets` [batch] int32 and `weights` [batch] float32, both 0
    for an empty row. Where token types differ, also `token_types` [batch, length] int32, 0 at pads."""
    real = indices != EMPTY
    targets = np.where(real, examples.labels[indices], 0).astype(np.int32)
    tokens = gather_rows(examples.ids, examples.offsets, shape[0], indices, examples.pad)
    batch = {"tokens": tokens, "targets": targets, "weights": real.astype(np.float32)}
    if examples.types is not None:
        batch["token_types"] = gather_rows(examples.types, examples.offsets, shape[0], indices, 0)
    return batch
