"""How much longer a tokenizer can make a text: an untrusted one could make gigabytes of a line.

The factors of consecutive steps multiply: two that replace a character by ten make a hundred of it.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

from tokenizers import Tokenizer

_MOST = 16  # times longer; no tokenizer in use makes a text more than three times longer
_LONGEST_RULE = 33  # bytes that NFKC, and so SentencePiece's rules, may make of a character of Arabic
_MOST_STEPS = 64
_LONGEST_TOKEN = 4096  # characters; a tokenizer of ours has at most 1,024
# kinds that make a text at most three times longer, however many follow each other
_STEPS = {
    "normalizer": "BertNormalizer Lowercase NFC NFD NFKC NFKD Nmt Prepend Strip StripAccents".split(),
    "pre_tokenizer": "BertPreTokenizer CharDelimiterSplit Digits FixedLength Metaspace Punctuation Split "
    "UnicodeScripts Whitespace WhitespaceSplit".split(),
    "decoder": "ByteFallback ByteLevel Fuse Metaspace Strip WordPiece".split(),
}
# kinds that may double a text elsewhere: bytes become letters, nothing becomes a space
_DOUBLING = ("BPEDecoder", "ByteLevel", "CTC")


def growth(tokenizer: Tokenizer) -> str | None:
    """The part of the tokenizer that may make a text more than 16 times longer, as the end of a sentence;
    None if there is none."""
    for name, harmless in _STEPS.items():
        part = getattr(tokenizer, name)
        steps = [] if part is None else list(_steps(json.loads(part.__getstate__())))
        if len(steps) > _MOST_STEPS:
            return f"its {name} has {len(steps):,} steps, but at most {_MOST_STEPS} are allowed"
        times = 1
        for step in steps:
            kind = step["type"]
            if kind == "Precompiled":
                if (longest := _longest_of_rules(step["precompiled_charsmap"])) > _LONGEST_RULE:
                    return f"its {name} Precompiled may put {longest:,} bytes in place of a character"
                continue
            if kind not in harmless and kind not in _DOUBLING and kind != "Replace":
                return f"its {name} {kind} is not known to keep a text's length"
            if len(prefix := step.get("prepend", "")) > _MOST:
                return f"its {name} {kind} puts {len(prefix):,} characters before every text"
            times *= max(1, len(step["content"])) if kind == "Replace" else 1 + (kind not in harmless)
            if times > _MOST:
                return f"its {name} {kind} may make a text {times:,} times longer, at most {_MOST} is allowed"
    longest = max(map(len, tokenizer.get_vocab()), default=0)
    if longest > _LONGEST_TOKEN:
        return f"it has a token of {longest:,} characters, but at most {_LONGEST_TOKEN:,} are allowed"
    return None


def _longest_of_rules(charsmap: str) -> int:
    """Bytes of the longest text that rules of SentencePiece put in place of another: they are behind the size
    of a trie and the trie, each ended by a zero."""
    rules = base64.b64decode(charsmap)
    size = int.from_bytes(rules[:4], "little")
    return max(map(len, rules[4 + size :].split(b"\0")))


def _steps(part: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if part["type"] != "Sequence":
        yield part
    for field in ("normalizers", "pretokenizers", "decoders"):
        for inner in part.get(field, ()):
            yield from _steps(inner)
