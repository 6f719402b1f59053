"""How many bytes of text each token of a byte-level BPE stands for."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32
from tokenizers import Tokenizer

from tlc_jax.data.tokenizer import Layout


def token_bytes(tokenizer: Tokenizer, layout: Layout) -> Float32[np.ndarray, "vocab"]:
    """The UTF-8 bytes of each token. </s> counts as one byte, for the end of its line; the other special
    tokens stand for no text and count as none."""
    vocabulary = tokenizer.get_vocab()
    sizes = np.zeros(max(vocabulary.values()) + 1, np.float32)
    for token, index in vocabulary.items():
        sizes[index] = len(token)  # the alphabet of a byte-level BPE has one character for each byte
    for index, added in tokenizer.get_added_tokens_decoder().items():
        sizes[index] = len(added.content.encode())  # added tokens are written as they are
    for token in layout.special:
        sizes[vocabulary[token]] = 0
    sizes[layout.end] = 1
    return sizes
