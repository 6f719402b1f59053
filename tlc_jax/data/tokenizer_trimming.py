"""Tokenizers whose vocabulary is trimmed to the tokens that a corpus uses.

Every text of the corpus becomes the same pieces as before, and any other text pieces of the same tokenizer:

* WordPiece takes the longest piece that fits, BPE joins pieces in the order of its merges, Unigram takes the
  segmentation of the best score. What was never chosen for the corpus can go, and the choices there remain
  the same, if a few entries stay: of BPE the parts that tokens are joined from, of Unigram the token of the
  lowest score, by which unknown characters are rated.
* All single characters and bytes stay, so that a text whose tokens are gone falls into smaller ones.
  WordLevel has nothing smaller: there a word that is gone is unknown.

Ids keep their order: a tokenizer in the layout of our own stays in it.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int
from tokenizers import Tokenizer

from tlc_jax.core.errors import UserError

_BYTE = re.compile(r"<0x[0-9A-F]{2}>")
State = dict[str, Any]
"""The content of a tokenizer.json."""


@dataclass(frozen=True)
class TrimmedVocabulary:
    """What is left of a vocabulary: the ids that are `kept`, in ascending order, of all tokens and rows."""

    kept: Int[np.ndarray, "kept"]
    rows: int
    """Of the embedding before: at least one more than the largest id."""
    unknown: int
    """The id, before, of the token of unknown text."""
    tokenizer: str
    """The content of the trimmed tokenizer.json."""

    @functools.cached_property
    def new_ids(self) -> Int[np.ndarray, "rows"]:
        """The id of each token, of one that is gone that of unknown text."""
        ids = np.full(self.rows, np.searchsorted(self.kept, self.unknown))
        ids[self.kept] = np.arange(len(self.kept))
        return ids

    def is_kept(self, ids: np.ndarray) -> np.ndarray:
        """For each id, whether its token is there."""
        there = np.zeros(self.rows, bool)
        there[self.kept] = True
        return there[ids]


def trim_tokenizer(
    tokenizer: Tokenizer, used: Collection[int], special: Collection[int], unknown: int, rows: int
) -> TrimmedVocabulary:
    """The vocabulary of the `used` ids and the `special` ones, with what the tokenizer cannot do without.
    UserError for a tokenizer that cannot be trimmed."""
    state: State = json.loads(tokenizer.to_str())
    state |= {"truncation": None, "padding": None}
    ids = tokenizer.get_vocab(with_added_tokens=True)
    wanted = {*used, *special, unknown, *_beside_texts(state["post_processor"])}
    texts = set(used) - (set(special) - {unknown})
    kind = state["model"]["type"]
    if kind not in _MODELS:
        raise UserError(
            f"a tokenizer with a {kind} model cannot be trimmed, but {', '.join(_MODELS)}: leave "
            "TrimVocabulary out of the recipe"
        )
    needed, trim_model = _MODELS[kind]
    kept = sorted(needed(state["model"], ids, texts) | wanted)
    new = {old: i for i, old in enumerate(kept)}
    trim_model(state["model"], ids, new)
    state["added_tokens"] = [
        {**token, "id": new[token["id"]]} for token in state["added_tokens"] if token["id"] in new
    ]
    state["post_processor"] = _renumbered(state["post_processor"], new)
    trimmed = TrimmedVocabulary(
        np.array(kept), rows, unknown, json.dumps(state, ensure_ascii=False, indent=2)
    )
    _check(tokenizer, trimmed)
    return trimmed


def _check(tokenizer: Tokenizer, trimmed: TrimmedVocabulary) -> None:
    """UserError where the library does not give each token its new id, as with ids that no token has."""
    now = Tokenizer.from_str(trimmed.tokenizer).get_vocab(with_added_tokens=True)
    before = {i: token for token, i in tokenizer.get_vocab(with_added_tokens=True).items()}
    if now != {before.get(old): new for new, old in enumerate(trimmed.kept.tolist())}:
        raise UserError(
            "the tokenizer of the model cannot be trimmed, since its ids do not follow each other or one "
            "token has several: leave TrimVocabulary out of the recipe"
        )


# --- what each kind of model cannot do without, and what is left of it ----------------------------------

Ids = Mapping[str, int]


def _is_single(token: str, prefix: str, suffix: str) -> bool:
    bare = token.removeprefix(prefix) if token != prefix else token
    return len(bare.removesuffix(suffix) or bare) == 1 or _BYTE.fullmatch(token) is not None


def _singles(tokens: Collection[str], ids: Ids, prefix: str = "", suffix: str = "") -> set[int]:
    return {ids[token] for token in tokens if _is_single(token, prefix, suffix)}


def _of_bpe(model: State, ids: Ids, used: set[int]) -> set[int]:
    """Single characters and bytes, and the parts of which tokens are joined, their parts, and so on."""
    prefix, suffix = _affixes(model)
    kept = used | _singles(model["vocab"], ids, prefix, suffix)
    parts: dict[int, set[int]] = {}
    for left, right in _merges(model):
        parts.setdefault(ids[left + right.removeprefix(prefix)], set()).update((ids[left], ids[right]))
    waiting = list(kept)
    while waiting:
        more = parts.get(waiting.pop(), set()) - kept
        kept |= more
        waiting += more
    return kept


def _trim_bpe(model: State, ids: Ids, new: Mapping[int, int]) -> None:
    prefix, _ = _affixes(model)
    model["merges"] = [
        [left, right]
        for left, right in _merges(model)
        if all(ids[token] in new for token in (left, right, left + right.removeprefix(prefix)))
    ]
    _trim_words(model, ids, new)


def _affixes(model: State) -> tuple[str, str]:
    return model.get("continuing_subword_prefix") or "", model.get("end_of_word_suffix") or ""


def _merges(model: State) -> list[tuple[str, str]]:
    """The pairs, which older files have as one text."""
    pairs = (pair.split(" ", 1) if isinstance(pair, str) else pair for pair in model["merges"])
    return [(left, right) for left, right in pairs]


def _of_wordpiece(model: State, ids: Ids, used: set[int]) -> set[int]:
    """Single characters. A word is unknown if a character of it is in no piece that fits; where a piece that
    is used has a character that is none by itself, a shorter piece before it could make a word known that was
    unknown, so that all pieces stay if the corpus has unknown words."""
    prefix, vocabulary = model["continuing_subword_prefix"], model["vocab"]
    if ids.get(model["unk_token"]) in used:
        for token in (token for token in vocabulary if ids[token] in used and token != model["unk_token"]):
            bare = token.removeprefix(prefix)
            first = bare[0] if bare == token else prefix + bare[0]
            if not {first, *(prefix + character for character in bare[1:])} <= vocabulary.keys():
                return set(ids.values())
    return _singles(vocabulary, ids, prefix)


def _of_unigram(model: State, ids: Ids, used: set[int]) -> set[int]:
    """Single characters and bytes, and the token of the lowest score, 10 below which unknown text has its
    own."""
    entries = [(token, score) for token, score in model["vocab"]]
    lowest = min(entries, key=lambda entry: entry[1])[0]
    return _singles([token for token, _ in entries], ids) | {ids[lowest]}


def _trim_unigram(model: State, ids: Ids, new: Mapping[int, int]) -> None:
    entries, unknown = model["vocab"], model.get("unk_id")
    model["vocab"] = [entry for i, entry in enumerate(entries) if i in new]
    model["unk_id"] = None if unknown is None else new[unknown]


def _of_words(model: State, ids: Ids, used: set[int]) -> set[int]:
    return set()


def _trim_words(model: State, ids: Ids, new: Mapping[int, int]) -> None:
    words = sorted(model["vocab"], key=model["vocab"].__getitem__)
    model["vocab"] = {word: new[ids[word]] for word in words if ids[word] in new}


_MODELS: dict[str, tuple[Callable[[State, Ids, set[int]], set[int]], Callable[..., None]]] = {
    "BPE": (_of_bpe, _trim_bpe),
    "WordPiece": (_of_wordpiece, _trim_words),
    "Unigram": (_of_unigram, _trim_unigram),
    "WordLevel": (_of_words, _trim_words),
}


# --- the post-processor ---------------------------------------------------------------------------------


def _beside_texts(processor: State | None) -> set[int]:
    """The ids that a post-processor puts beside texts."""
    if processor is None:
        return set()
    inner = (_beside_texts(each) for each in processor.get("processors", ()))
    template = (i for token in processor.get("special_tokens", {}).values() for i in token["ids"])
    pair = (processor[key][1] for key in ("cls", "sep") if key in processor)
    return set().union(*inner, template, pair)


def _renumbered(processor: State | None, new: Mapping[int, int]) -> State | None:
    """The post-processor with new ids."""
    if processor is None:
        return None
    changed = dict(processor)
    if "processors" in processor:
        changed["processors"] = [_renumbered(each, new) for each in processor["processors"]]
    if "special_tokens" in processor:
        changed["special_tokens"] = {
            name: {**token, "ids": [new[i] for i in token["ids"]]}
            for name, token in processor["special_tokens"].items()
        }
    for key in ("cls", "sep"):
        if key in processor:
            token, i = processor[key]
            changed[key] = [token, new[i]]
    return changed
