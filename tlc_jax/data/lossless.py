"""Whether a tokenizer keeps every text, as a byte-level BPE does.

Ids of text that was lowercased, truncated or replaced by `<unk>` look like any others: nobody would notice
later.
"""

from __future__ import annotations

import json
from typing import Any

from tokenizers import Tokenizer, decoders, pre_tokenizers

# these split a text without losing any of it
_SPLITTERS = ("Digits", "Punctuation", "Split", "UnicodeScripts")
_PROBES = (
    "Plain words, 3.14 and CAPITALS; it's a test_of (signs)!",
    "caf\u00e9 cafe\u0301 na\u00efve \u00c5ngstr\u00f6m \ufb01ne \u00bd \u212b",
    "\u0440\u0443\u0441\u0441\u043a\u0438\u0439 \u4e2d\u6587\u3002 \u65e5\u672c\u8a9e \ud55c\uad6d",
    "\u0627\u0644\u0639\u0631\u0628\u064a\u0629 \u0939\u093f\u0928\u094d\u0926\u0940 \u0e44\u0e17\u0e22",
    "\U0001f600\U0001f468\u200d\U0001f469\u200d\U0001f467 \u2581low \u0120 \ufeff\u200b\u00ad",
    "  two  and   three blanks\tand tabs\t\t at the end  ",
    " ",
    "control \x01\x7f\x85 \u00a0\u2003\u2028\u3000 no break",
    "<s></s><pad><unk><mask>[UNK][CLS] </w> ## ##x",
)


def loss(tokenizer: Tokenizer, special: tuple[str, ...]) -> str | None:
    """How the tokenizer loses or changes text and what to do about it, as the end of a sentence; None if it
    keeps every text. Text must never become one of the `special` tokens."""
    state: dict[str, Any] = json.loads(tokenizer.to_str())
    model, normalizer = state["model"], state["normalizer"]
    if model["type"] != "BPE":
        return f"it is a {model['type']} model, not a byte-level BPE"
    if model["dropout"]:
        return f'it drops merges at random (dropout {model["dropout"]}): set "dropout" to null'
    if mark := model["continuing_subword_prefix"] or model["end_of_word_suffix"]:
        return f"its tokens are marked as parts of words ({mark!r}), unlike those of a byte-level BPE"
    if normalizer and normalizer.get("normalizers") != []:
        return f'its normalizer ({_types(normalizer)}) changes text: set "normalizer" to null'
    steps = _steps(state["pre_tokenizer"])
    if "ByteLevel" not in (step["type"] for step in steps):
        return f"it is not byte-level (its pre_tokenizer is {_types(state['pre_tokenizer'])})"
    for step in steps:
        if step["type"] not in ("ByteLevel", *_SPLITTERS) or step.get("behavior") == "Removed":
            return f"its pre_tokenizer {step['type']} removes parts of the text"
    for token in state["added_tokens"]:
        if (token["lstrip"] or token["rstrip"]) and not token["special"]:
            return (
                f"its token {token['content']!r} removes the spaces beside it: "
                'set "lstrip" and "rstrip" to false'
            )
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    if missing := [byte for byte in alphabet if tokenizer.token_to_id(byte) is None]:
        return f"{len(missing)} of the 256 bytes have no token, such as {min(missing)!r}"
    return _probe(tokenizer, special, prefix=any(step.get("add_prefix_space") for step in steps))


def normalizer_of(tokenizer: Tokenizer) -> str | None:
    """The types of the normalizers that change text before the tokenizer sees it; None if there are none."""
    normalizer = json.loads(tokenizer.normalizer.__getstate__()) if tokenizer.normalizer else None
    return _types(normalizer) if normalizer and normalizer.get("normalizers") != [] else None


def _probe(tokenizer: Tokenizer, special: tuple[str, ...], prefix: bool) -> str | None:
    decoder = decoders.ByteLevel()
    encodings = tokenizer.encode_batch_fast(list(_PROBES), add_special_tokens=False)
    for probe, encoding in zip(_PROBES, encodings, strict=True):
        tokens = [tokenizer.id_to_token(i) or "" for i in encoding.ids]
        if taken := set(tokens).intersection(special):
            return f"it encodes plain text as {min(taken)}"
        decoded = decoder.decode(tokens)
        if decoded not in ({probe, f" {probe}"} if prefix else {probe}):
            return f"the text {probe!r} becomes {decoded!r}"
    return None


def _steps(pre_tokenizer: dict[str, Any] | None) -> list[dict[str, Any]]:
    if pre_tokenizer is None:
        return []
    if pre_tokenizer["type"] != "Sequence":
        return [pre_tokenizer]
    return [step for inner in pre_tokenizer["pretokenizers"] for step in _steps(inner)]


def _types(component: dict[str, Any] | None) -> str:
    if component is None:
        return "none"
    inner = component.get("normalizers") or component.get("pretokenizers") or []
    return ", ".join(part["type"] for part in inner) or component["type"]
