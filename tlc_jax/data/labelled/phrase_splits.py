"""Finds texts that contain other texts, so that a phrase and its sentence are on the same side of a split.

The training examples of SST-2 are phrases of sentences. If each went to a side by its own hash, 85 % of the
tuning phrases of four words and more would occur word for word in a training phrase (none of the validation
set does), and a model that memorises would look as if it generalised.

The search uses the failure links of Aho and Corasick (Efficient string matching, 1975): its time grows with
the number of words, whatever the texts have in common.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from tlc_jax.core import stopping

WORDS = 4  # shorter texts may occur anywhere
_ROOT = 0


@dataclass(frozen=True)
class _Trie:
    """All prefixes of texts. Node n > 0 is reached by `keys[n - 1]` = parent x vocabulary + word; the nodes
    of depth d are levels[d - 1] to levels[d]. Keys are sorted, since parents are numbered before children."""

    keys: Int[np.ndarray, "nodes"]
    levels: Int[np.ndarray, "depths_1"]
    first: Int[np.ndarray, "nodes_1"]
    """The first of the texts that begin with the words of a node."""
    ends: Int[np.ndarray, "texts"]
    """The node of each whole text."""
    vocabulary: int


def longest_holders(texts: list[str]) -> list[str]:
    """For each text the longest one that contains it as a sequence of whole words, and the first in
    alphabetical order of equally long ones; the text itself if there is none or it has fewer than `WORDS`
    words."""
    words = [_words(text) for text in texts]
    order = sorted(
        (i for i in range(len(texts)) if len(words[i]) >= WORDS), key=lambda i: (-len(words[i]), texts[i])
    )
    longest = list(texts)
    if order:
        trie = _trie([words[i] for i in order])
        holders = _holders(trie)[trie.ends]
        for i, holder in zip(order, holders.tolist(), strict=True):
            longest[i] = texts[order[holder]]
    return longest


def _words(text: str) -> list[str]:
    stopping.check()
    return text.split()


def _trie(texts: list[list[str]]) -> _Trie:
    """The trie of texts that are sorted by length, the longest first."""
    numbers: dict[str, int] = {}
    ids = np.concatenate([_numbered(text, numbers) for text in texts])
    lengths = np.array([len(text) for text in texts])
    starts = np.cumsum(lengths) - lengths
    node = np.zeros(len(texts), np.int64)
    keys: list[np.ndarray] = []
    first = [np.zeros(1, np.int64)]
    levels = [1]
    for depth in range(lengths[0]):
        stopping.check()
        active = int(np.searchsorted(-lengths, -depth))  # texts of more than `depth` words
        key = node[:active] * len(numbers) + ids[starts[:active] + depth]
        unique, beginning, inverse = np.unique(key, return_index=True, return_inverse=True)
        node[:active] = levels[-1] + inverse
        keys.append(unique)
        first.append(beginning)
        levels.append(levels[-1] + len(unique))
    return _Trie(np.concatenate(keys), np.array(levels), np.concatenate(first), node, len(numbers))


def _numbered(words: list[str], numbers: dict[str, int]) -> Int[np.ndarray, "words"]:
    """The numbers of words; new words get the next ones."""
    stopping.check()
    return np.array([numbers.setdefault(word, len(numbers)) for word in words], np.int64)


def _holders(trie: _Trie) -> Int[np.ndarray, "nodes"]:
    """For each node the first of the texts that contain its words anywhere: those that begin with it, or with
    a node that ends with it."""
    failures, first = _failures(trie), trie.first.copy()
    for depth in range(len(trie.levels) - 1, 0, -1):
        stopping.check()
        nodes = slice(trie.levels[depth - 1], trie.levels[depth])
        np.minimum.at(first, failures[nodes], first[nodes])
    return first


def _failures(trie: _Trie) -> Int[np.ndarray, "nodes"]:
    """For each node the deepest other node that it ends with, computed level by level."""
    failures = np.zeros(len(trie.keys) + 1, np.int64)
    parents, words = np.divmod(trie.keys, trie.vocabulary)
    for depth in range(1, len(trie.levels) - 1):  # nodes of one word fail to the root
        stopping.check()
        left = np.arange(trie.levels[depth], trie.levels[depth + 1])
        state = failures[parents[left - 1]]
        while len(left):
            wanted = state * trie.vocabulary + words[left - 1]
            at = np.minimum(np.searchsorted(trie.keys, wanted), len(trie.keys) - 1)
            there = trie.keys[at] == wanted
            failures[left[there]] = at[there] + 1
            missing = ~there & (state != _ROOT)
            left, state = left[missing], failures[state[missing]]
    return failures
