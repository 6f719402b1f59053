"""Dynamic masking for masked language modelling, as fairseq's mask_tokens_dataset does it.

In a row of n tokens, int(rate * n + U[0, 1)) positions are drawn without replacement, special tokens
included; 80 % of them become <mask>, 10 % a token drawn uniformly from those that are not special (in our own
layout from all but the first four, as in fairseq), and 10 % stay.
The number of slots is static: floor(rate * length) + 1, which is 20 at length 128, or all positions.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, Int32, Integer

from tlc_jax.core.vocabulary import Roles

MASKED, RANDOM, KEPT = 0.8, 0.1, 0.1
"""Shares of the chosen positions that become <mask>, a random token, and stay."""

MaskedBatch = dict[str, np.ndarray]
_WORDS = 4  # 64-bit words that Philox gives for each value of its counter
_POSITION, _LAST = np.uint64(2**32 - 1), np.uint64(2**64 - 2**32)


def slots(length: int, rate: float) -> int:
    """The most positions that can be masked in a row of `length` tokens."""
    return min(length, int(rate * length) + 1)


def mask(
    rows: Integer[np.ndarray, "batch length"],
    *,
    key: tuple[int, int],
    first_row: int,
    rate: float,
    roles: Roles,
) -> MaskedBatch:
    """Mask rows `first_row, first_row + 1, ...` of the batch that `key` names.

    The result for a row depends on `key`, the row's index in the batch and its ids, not on the other rows
    that a host builds. Returns `tokens` [batch, length] int32 with masked ids, and for each slot `positions`
    and `targets` [batch, slots] int32 and `weights` [batch, slots] float32, which is 0 for a slot without a
    prediction (its position is 0). Slots are in order of position.
    """
    assert roles.mask is not None, "a task without one is refused"
    batch, length = rows.shape
    count = slots(length, rate)
    order, uniforms, replacements = _draw(key, first_row, batch, length, count, roles)

    real = rows != roles.pad
    sizes = real.sum(axis=1)
    chosen_count = np.minimum(rate * sizes + uniforms[:, 0], sizes).astype(np.int64)
    # each position with its random number in the high bits, pads last: the first `count` of them are a draw
    ranked = order.astype(np.uint64) << np.uint64(32) | np.arange(length, dtype=np.uint64)
    ranked[~real] |= _LAST
    ranked.sort(axis=1)
    positions = (ranked[:, :count] & _POSITION).astype(np.int64)
    positions[np.arange(count) >= chosen_count[:, None]] = length
    positions.sort(axis=1)
    used = positions < length
    positions[~used] = 0

    targets = np.take_along_axis(rows, positions, 1).astype(np.int32)
    what = uniforms[:, 1:]
    inputs = np.where(what < MASKED, roles.mask, np.where(what < MASKED + RANDOM, replacements, targets))
    tokens = rows.astype(np.int32)
    row, slot = np.nonzero(used)
    tokens[row, positions[row, slot]] = inputs[row, slot]
    return {
        "tokens": tokens,
        "positions": positions.astype(np.int32),
        "targets": np.where(used, targets, 0),
        "weights": used.astype(np.float32),
    }


def _draw(
    key: tuple[int, int], first_row: int, batch: int, length: int, count: int, roles: Roles
) -> tuple[
    Integer[np.ndarray, "batch length"],
    Float32[np.ndarray, "batch slots_1"],
    Int32[np.ndarray, "batch slots"],
]:
    """Random numbers of each row, each from its own part of one Philox stream."""
    words = (length + 1) // 2 + (count + 1 + 1) // 2 + (count + 1) // 2
    words = -(-words // _WORDS) * _WORDS
    stream = np.random.Philox(key=np.array(key, np.uint64)).advance(first_row * words // _WORDS)
    raw = stream.random_raw(batch * words).astype("<u8").view("<u4").reshape(batch, 2 * words)
    order, rest = raw[:, :length], raw[:, 2 * ((length + 1) // 2) :]
    uniforms = (rest[:, : count + 1] >> 8).astype(np.float32) * np.float32(2**-24)
    draws = rest[:, 2 * ((count + 2) // 2) :][:, :count].astype(np.uint64)
    replacements = roles.drawn[draws * np.uint64(len(roles.drawn)) >> np.uint64(32)]
    return order, uniforms, replacements
