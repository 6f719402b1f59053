"""Texts that stand inside other texts: on both sides of a cut they would tell one side what is on the other.

SST-2's training examples are phrases of sentences. Cut by each one's own hash, 85 % of the tuning phrases of
four words and more stand word for word in a training phrase (of the validation set none does), and a model
that remembers looks as if it understood."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

WORDS = 4  # shorter texts may stand anywhere


def families(texts: Sequence[str]) -> list[str]:
    """For each text the longest one that holds it as a run of whole words; itself where none does, and where
    it has fewer than `WORDS` words."""
    words = [text.split() for text in texts]
    heads = {tuple(own[:WORDS]) for own in words if len(own) >= WORDS}
    holders: dict[tuple[str, ...], list[int]] = defaultdict(list)  # which texts hold the beginning of another
    for number in sorted(range(len(texts)), key=lambda i: (-len(words[i]), texts[i])):
        own = words[number]
        for gram in {tuple(own[i : i + WORDS]) for i in range(len(own) - WORDS + 1)} & heads:
            holders[gram].append(number)
    joined = [f" {' '.join(own)} " for own in words]
    found = []
    for text, own, inner in zip(texts, words, joined, strict=True):
        larger = holders[tuple(own[:WORDS])] if len(own) >= WORDS else []
        found.append(next((texts[i] for i in larger if inner in joined[i]), text))
    return found
