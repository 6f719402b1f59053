"""Special tokens: what they are for, and their ids in the layouts of our tokenizers.

The tokenizer of a pretrained model may number its special tokens in any way and put them around texts in any
way. What an encoder's data and tasks need of that are its `Roles`.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int32

# the layout of the encoders that we train, RoBERTa's: <mask> is the last id
BOS, PAD, EOS, UNK = 0, 1, 2, 3
SPECIAL_TOKENS = ("<s>", "<pad>", "</s>", "<unk>")
MASK_TOKEN = "<mask>"

# translation uses the layout of Tensor2Tensor: no beginning, the pad first
TRANSLATION_PAD, TRANSLATION_EOS, TRANSLATION_UNK = 0, 1, 2
TRANSLATION_TOKENS = ("<pad>", "</s>", "<unk>")

Ids = tuple[int, ...]


@dataclass(frozen=True)
class Frame:
    """What stands around the texts of an example, and the token types of the whole row."""

    special: tuple[Ids, ...]
    """The special tokens before each text, and those after the last one."""
    special_types: tuple[Ids, ...]
    """The token types of those."""
    text_types: Ids
    """The token type of each text."""

    @property
    def size(self) -> int:
        """The number of special tokens."""
        return sum(map(len, self.special))

    @property
    def has_types(self) -> bool:
        """Whether not all token types are 0."""
        return any(self.text_types) or any(map(any, self.special_types))

    def ids(self, texts: Sequence[Sequence[int]]) -> list[int]:
        """The row of texts that are given by their ids."""
        parts = self._parts(self.special, texts)
        return [token for part in parts for token in part]

    def renumbered(self, new_ids: Sequence[int]) -> Frame:
        """The same with other ids of the special tokens."""
        special = tuple(tuple(int(new_ids[i]) for i in part) for part in self.special)
        return dataclasses.replace(self, special=special)

    def types(self, lengths: Sequence[int]) -> list[int]:
        """The token types of the row of texts of these lengths."""
        texts = [[kind] * length for kind, length in zip(self.text_types, lengths, strict=True)]
        return [kind for part in self._parts(self.special_types, texts) for kind in part]

    def _parts(self, special: tuple[Ids, ...], texts: Sequence[Sequence[int]]) -> Iterator[Sequence[int]]:
        for before, text in zip(special[:-1], texts, strict=True):
            yield before
            yield text
        yield special[-1]


@dataclass(frozen=True)
class Roles:
    """What the special tokens of an encoder's tokenizer are for."""

    vocab_size: int
    """The tokenizer's largest id, and one more."""
    pad: int
    begin: int
    """Begins a row, and stands for the whole text in a classification: <s>, [CLS]."""
    end: int
    """Ends a text: </s>, [SEP]."""
    unknown: int
    mask: int | None
    never_drawn: Ids
    """Ids that never replace a token at random."""
    one: Frame
    two: Frame | None
    """None where the tokenizer does not say how two texts are framed."""

    @functools.cached_property
    def drawn(self) -> Int32[np.ndarray, "drawn"]:
        """The ids that may replace a token at random, in order."""
        ids = np.arange(self.vocab_size, dtype=np.int32)
        return np.setdiff1d(ids, np.array(self.never_drawn, np.int32), assume_unique=True)

    @property
    def controls(self) -> frozenset[int]:
        """The ids that no text stands for."""
        ids = (self.pad, self.begin, self.end, *([] if self.mask is None else [self.mask]))
        return frozenset(ids)

    @property
    def ours(self) -> bool:
        """Whether they are those of the encoders that we train."""
        return self == roberta_roles(self.vocab_size)

    def renumbered(self, new_ids: Sequence[int], kept: Sequence[int]) -> Roles:
        """The roles in a vocabulary of the `kept` ids alone; `new_ids` are those of all ids before."""
        kept_ids = frozenset(kept)
        return Roles(
            vocab_size=len(kept),
            pad=int(new_ids[self.pad]),
            begin=int(new_ids[self.begin]),
            end=int(new_ids[self.end]),
            unknown=int(new_ids[self.unknown]),
            mask=None if self.mask is None else int(new_ids[self.mask]),
            never_drawn=tuple(int(new_ids[i]) for i in self.never_drawn if i in kept_ids),
            one=self.one.renumbered(new_ids),
            two=None if self.two is None else self.two.renumbered(new_ids),
        )

    def frame(self, texts: int) -> Frame | None:
        """That of an example of one text or two."""
        return self.one if texts == 1 else self.two


def roberta_roles(vocab_size: int) -> Roles:
    """The roles in RoBERTa's layout: `<s> A </s>`, `<s> A </s></s> B </s>`. <mask> may replace a token at
    random, as in fairseq."""
    return Roles(
        vocab_size,
        PAD,
        BOS,
        EOS,
        UNK,
        mask=vocab_size - 1,
        never_drawn=(BOS, PAD, EOS, UNK),
        one=roberta_frame(BOS, EOS, 1),
        two=roberta_frame(BOS, EOS, 2),
    )


def roberta_frame(begin: int, end: int, texts: int) -> Frame:
    """`<s> A </s>` or `<s> A </s></s> B </s>`, all of type 0."""
    special = ((begin,), (end,)) if texts == 1 else ((begin,), (end, end), (end,))
    return Frame(special, tuple((0,) * len(ids) for ids in special), (0,) * texts)


def bert_frame(begin: int, end: int, texts: int) -> Frame:
    """`[CLS] A [SEP]` of type 0, followed by `B [SEP]` of type 1 if there are two texts."""
    if texts == 1:
        return roberta_frame(begin, end, 1)
    return Frame(((begin,), (end,), (end,)), ((0,), (0,), (1,)), (0, 1))
