"""Floating-point operations of an update, counted from the shapes of its matrix products.

A multiply-add counts as 2; the backward pass costs twice the forward pass; what is computed again to save
memory does not count, so that a share of the device's peak says how well it is used. Embedding lookups,
normalisation, softmax and the optimizer are left out.
"""

from __future__ import annotations

from tlc_jax.config.model import EncoderDecoderConfig, ModelConfig, TransformerConfig


def mlm_update(model: ModelConfig, rows: int, length: int, predictions: int) -> float:
    """Of rows of `length` tokens with so many predictions each."""
    tokens, hidden = rows * length, model.hidden_size
    layers = model.num_layers * (_attention(model, tokens, tokens, length) + _feed_forward(model, tokens))
    head = rows * predictions * 2 * hidden * (hidden + model.vocab_size)
    return 3.0 * (layers + head)


def translation_update(model: EncoderDecoderConfig, rows: int, source: int, target: int) -> float:
    """Of rows of `source` and `target` tokens, pads included; masked attention counts as computed, whole."""
    sources, targets = rows * source, rows * target
    encoder = _attention(model, sources, sources, source) + _feed_forward(model, sources)
    decoder = (
        _attention(model, targets, targets, target)
        + _attention(model, targets, sources, source)
        + _feed_forward(model, targets)
    )
    head = targets * 2 * model.hidden_size * model.vocab_size
    return 3.0 * (model.num_layers * (encoder + decoder) + head)


def _attention(model: TransformerConfig, queries: int, others: int, seen: int) -> float:
    """Of `queries` tokens to `seen` others each; `others` tokens have keys and values."""
    width = model.heads * model.head_size
    projections = 2 * model.hidden_size * width * (2 * queries + 2 * others)
    return projections + 2 * 2 * queries * seen * width


def _feed_forward(model: TransformerConfig, tokens: int) -> float:
    return 2 * 2 * tokens * model.hidden_size * model.feed_forward
