"""Floating-point operations as the paper counts them (appendix A.1): by ELECTRA's script (Clark et al. 2020,
flops_computation.py).

A multiply-add counts as 2, softmax, dropout, normalisation and activations count too, and the backward pass
counts as much as the forward pass. Embeddings are looked up by products with one-hot vectors unless `sparse`,
which is 29 to 58 % of the paper's sizes. The script counts the normalisation after attention once for each
token, not for each of its numbers; that is kept, so that its numbers are met.
"""

from __future__ import annotations

from tlc_jax.config.model import EncoderDecoderConfig, TransformerConfig

FORWARD = 1 / 2
"""Share of the forward pass in an update."""
_DROPOUT, _NORM, _ACTIVATION, _SOFTMAX = 4, 5, 8, 5  # operations for each number


def electra_update(
    model: TransformerConfig, rows: int, length: int, predicted: float, *, sparse: bool = False
) -> float:
    """Operations of an update of an encoder with rows of `length` tokens, of which the share `predicted` is
    predicted."""
    layers = model.num_layers * _block(model, length)
    inside = _embedding_input(model, length, sparse)
    return 2.0 * rows * (layers + inside + _embedding_output(model, length, predicted))


def electra_translation_update(
    model: EncoderDecoderConfig, rows: int, source: int, target: int, *, sparse: bool = False
) -> float:
    """Operations of an update of an encoder-decoder: the encoder predicts nothing, the decoder every token,
    and its attention counts twice, both times over `target` tokens."""
    encoder = model.num_layers * _block(model, source) + _embedding_input(model, source, sparse)
    decoder = model.num_layers * _block(model, target, attentions=2) + _embedding_input(model, target, sparse)
    return 2.0 * rows * (encoder + decoder + _embedding_output(model, target, 1.0))


def _block(model: TransformerConfig, length: int, attentions: int = 1) -> int:
    hidden, heads, inner = model.hidden_size, model.heads, model.feed_forward
    attention = (
        3 * (2 * hidden * hidden + hidden)
        + 2 * (2 * hidden * length)
        + (_SOFTMAX + _DROPOUT + 1) * length * heads
        + 2 * hidden * hidden
        + (1 + _DROPOUT + 1) * hidden
        + _NORM
    )
    feed_forward = 2 * 2 * hidden * inner + (_ACTIVATION + 1) * inner + (1 + _DROPOUT + 1 + _NORM) * hidden
    return length * (attentions * attention + feed_forward)


def _embedding_input(model: TransformerConfig, length: int, sparse: bool) -> int:
    """Tokens, two segments and positions by one-hot products, their sum, normalisation and dropout."""
    hidden = model.hidden_size
    tokens = 0 if sparse else 2 * hidden * model.vocab_size
    return length * (tokens + 2 * hidden * (length + 2) + (2 + _NORM + _DROPOUT) * hidden)


def _embedding_output(model: TransformerConfig, length: int, predicted: float) -> float:
    """A dense layer with activation and normalisation, then logits, their bias and softmax."""
    hidden, vocabulary = model.hidden_size, model.vocab_size
    dense = 2 * hidden * hidden + (_ACTIVATION + _NORM + 1) * hidden
    logits = 2 * hidden * vocabulary + (_SOFTMAX + 1 + 1) * vocabulary
    return predicted * length * (dense + logits)
