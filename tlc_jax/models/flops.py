"""Floating-point operations of an update, counted from the shapes of its matrix products.

A multiply-add counts as 2, and the backward pass as twice the forward pass. What is recomputed to save memory
is not counted, so that a share of the device's peak is the model's use of it; nor are embedding lookups,
normalisation, softmax and the optimizer.
"""

from __future__ import annotations

from tlc_jax.config.model import EncoderDecoderConfig, ModelConfig, TransformerConfig

FORWARD = 1 / 3
"""Share of the forward pass in an update."""


def mlm_update(model: ModelConfig, rows: int, length: int, predictions: int) -> float:
    """FLOPs of rows of `length` tokens, each with this number of predictions."""
    head = rows * predictions * 2 * model.hidden_size * (model.hidden_size + model.vocab_size)
    return 3.0 * (_encoder(model, rows, length) + head)


def classification_update(model: ModelConfig, rows: int, length: int, classes: int) -> float:
    """FLOPs of rows of `length` tokens."""
    head = rows * 2 * model.hidden_size * (model.hidden_size + classes)
    return 3.0 * (_encoder(model, rows, length) + head)


def translation_update(model: EncoderDecoderConfig, rows: int, source: int, target: int) -> float:
    """FLOPs of rows of `source` and `target` tokens, pads included; causal attention counts as it is
    computed, in full."""
    sources, targets = rows * source, rows * target
    decoder = (
        _attention(model, targets, targets, target)
        + _attention(model, targets, sources, source)
        + _feed_forward(model, targets)
    )
    head = targets * 2 * model.hidden_size * model.vocab_size
    return 3.0 * (_encoder(model, rows, source) + model.num_layers * decoder + head)


def _encoder(model: TransformerConfig, rows: int, length: int) -> int:
    tokens = rows * length
    return model.num_layers * (_attention(model, tokens, tokens, length) + _feed_forward(model, tokens))


def _attention(model: TransformerConfig, queries: int, keys: int, visible: int) -> int:
    """Attention of `queries` tokens, each to `visible` of the `keys` tokens."""
    width = model.heads * model.head_size
    projections = 2 * model.hidden_size * width * (2 * queries + 2 * keys)
    return projections + 2 * 2 * queries * visible * width


def _feed_forward(model: TransformerConfig, tokens: int) -> int:
    return 2 * 2 * tokens * model.hidden_size * model.feed_forward
