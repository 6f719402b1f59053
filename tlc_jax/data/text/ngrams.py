"""Unigram and bigram perplexity of held-out rows: a model that is not better has learned nothing.

Witten-Bell smoothing (Witten and Bell 1991, as in Chen and Goodman 1998, 2.5): a history h that was
followed by T(h) different tokens in c(h) positions gives p(w|h) = (c(h,w) + T(h) p'(w)) / (c(h) + T(h)),
where p' is the lower order: the unigram, and below it the uniform distribution.
"""

from __future__ import annotations

import numpy as np

from tlc_jax.core.vocabulary import PAD

LARGEST_SAMPLE = 1 << 26  # tokens counted at most; of more text, evenly spaced rows
_CHUNK = 1 << 22


def perplexities(train: np.ndarray, held_out: np.ndarray, vocab_size: int) -> dict[str, float | int]:
    """Perplexity per token of `held_out` [rows, length] under counts of `train` [rows, length].

    The first id of each row (<s>) is history only; <pad> is neither history nor predicted.
    Returns `unigram_perplexity`, `bigram_perplexity` and `counted_tokens`.
    """
    step = max(1, -(-train.size // LARGEST_SAMPLE))
    train = train[::step]
    history, word = _pairs(held_out)

    unigrams = np.zeros(vocab_size, np.int64)
    codes = np.zeros(0, np.int64)
    counts = np.zeros(0, np.int64)
    rows = max(1, _CHUNK // train.shape[1])
    for start in range(0, len(train), rows):
        first, second = _pairs(train[start : start + rows])
        unigrams += np.bincount(second, minlength=vocab_size)
        codes, counts = _merge(codes, counts, first * vocab_size + second)

    total, types = unigrams.sum(), np.count_nonzero(unigrams)
    p_unigram = (unigrams + types / vocab_size) / (total + types)
    followers = np.bincount(codes // vocab_size, minlength=vocab_size)  # T(h)
    occurrences = np.bincount(codes // vocab_size, weights=counts, minlength=vocab_size)  # c(h)

    wanted = history * vocab_size + word
    index = np.minimum(np.searchsorted(codes, wanted), len(codes) - 1)
    seen = np.where(codes[index] == wanted, counts[index], 0)
    backoff = p_unigram[word]
    weight = occurrences[history] + followers[history]
    p_bigram = np.where(weight > 0, (seen + followers[history] * backoff) / np.maximum(weight, 1), backoff)
    return {
        "unigram_perplexity": float(np.exp(-np.log(backoff).mean())),
        "bigram_perplexity": float(np.exp(-np.log(p_bigram).mean())),
        "counted_tokens": int(total),
    }


def _pairs(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(history, token) at every position with a token to predict."""
    ids = np.asarray(rows, np.int64)
    real = ids[:, 1:] != PAD
    return ids[:, :-1][real], ids[:, 1:][real]


def _merge(codes: np.ndarray, counts: np.ndarray, new: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    fresh, fresh_counts = np.unique(new, return_counts=True)
    merged, inverse = np.unique(np.concatenate([codes, fresh]), return_inverse=True)
    summed = np.bincount(inverse, weights=np.concatenate([counts, fresh_counts]), minlength=len(merged))
    return merged, summed.astype(np.int64)
