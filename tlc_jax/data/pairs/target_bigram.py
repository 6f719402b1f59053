"""The target bigram: what counts of neighbouring tokens say of a translation, without its source. A
translation model that is not better has learned nothing of how the languages correspond."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float64, Integer

from tlc_jax.core.vocabulary import TRANSLATION_PAD as PAD
from tlc_jax.data.bigrams import CHUNK, LARGEST_SAMPLE, Pairs, count_pairs, smoothed_unigram, witten_bell
from tlc_jax.data.pairs.pair_batches import EncodedPairs


class TargetBigram:
    """p(token | token before it) by Witten-Bell, of the targets of training pairs, </s> among the predicted
    tokens. Before the first token is a pad."""

    def __init__(self, pairs: EncodedPairs, vocab_size: int):
        counts = count_pairs(_chunks(pairs), vocab_size)
        self._model = witten_bell(counts, smoothed_unigram(counts.sum(axis=0)))

    def nats(self, targets: Integer[np.ndarray, "rows length"]) -> Float64[np.ndarray, "rows length"]:
        """-log p of each target token; 0 for pads."""
        before = np.pad(targets[:, :-1], ((0, 0), (1, 0)), constant_values=PAD)
        real = targets != PAD
        result = np.zeros(targets.shape)
        result[real] = -np.log(self._model.probability(before[real], targets[real]))
        return result


def _chunks(pairs: EncodedPairs) -> Iterator[Pairs]:
    """Neighbouring tokens, each first one with a pad before it; of more than LARGEST_SAMPLE tokens, evenly
    spaced chunks."""
    ids, offsets = pairs.target_ids, pairs.target_offsets
    step = max(1, -(-len(ids) // LARGEST_SAMPLE))
    for start in range(0, len(ids), CHUNK * step):
        words = np.asarray(ids[start : start + CHUNK])
        before = np.empty_like(words)
        before[1:] = words[:-1]
        before[0] = ids[start - 1] if start else PAD
        begins = offsets[np.searchsorted(offsets, start) : np.searchsorted(offsets, start + len(words))]
        before[begins - start] = PAD
        yield before, words
