"""What transformers calls the tensors of an encoder, by `model.architecture`.

A layer that shares its parameters with others (`model.shared_layers`) has names of its own there.
"""

from __future__ import annotations

from dataclasses import dataclass

from tlc_jax.config import ModelConfig


@dataclass(frozen=True)
class Names:
    """{our path: theirs} of modules; those of a layer and of the encoder without what stands before them."""

    prefix: str
    """Of the encoder's tensors in models with a head; the encoder alone is written without it."""
    layers: str
    layer: dict[str, str]
    encoder: dict[str, str]
    heads: dict[str, str]
    output: str
    """The output matrix of masked language modelling."""
    bias: str
    """Its bias, where the matrix is the embedding."""


_ATTENTION = {
    "attention/query": "attention.self.query",
    "attention/key": "attention.self.key",
    "attention/value": "attention.self.value",
    "attention/output": "attention.output.dense",
}
_FEED_FORWARD = {"feed_forward/expand": "intermediate.dense", "feed_forward/contract": "output.dense"}
_POST_NORM = {"attention_norm": "attention.output.LayerNorm", "feed_forward_norm": "output.LayerNorm"}
_PRE_NORM = {"attention_norm": "attention.LayerNorm", "feed_forward_norm": "intermediate.LayerNorm"}
_EMBEDDINGS = {"encoder/embedding_norm": "embeddings.LayerNorm"}
_ROBERTA_HEADS = {
    "mlm_head/dense": "lm_head.dense",
    "mlm_head/norm": "lm_head.layer_norm",
    "classification_head/dense": "classifier.dense",
    "classification_head/output": "classifier.out_proj",
}
_BERT_HEADS = {
    "mlm_head/dense": "cls.predictions.transform.dense",
    "mlm_head/norm": "cls.predictions.transform.LayerNorm",
    "classification_head/output": "classifier",
}
_DISTILBERT_HEADS = {
    "mlm_head/dense": "vocab_transform",
    "mlm_head/norm": "vocab_layer_norm",
    "classification_head/dense": "pre_classifier",
    "classification_head/output": "classifier",
}
_DISTILBERT_LAYER = {
    "attention/query": "attention.q_lin",
    "attention/key": "attention.k_lin",
    "attention/value": "attention.v_lin",
    "attention/output": "attention.out_lin",
    "attention_norm": "sa_layer_norm",
    "feed_forward/expand": "ffn.lin1",
    "feed_forward/contract": "ffn.lin2",
    "feed_forward_norm": "output_layer_norm",
}


def _roberta(prefix: str, norms: dict[str, str], encoder: dict[str, str]) -> Names:
    layer = {**_ATTENTION, **_FEED_FORWARD, **norms}
    output, bias = "lm_head.decoder", "lm_head.bias"
    return Names(prefix, "encoder.layer", layer, encoder, _ROBERTA_HEADS, output, bias)


NAMES = {
    "roberta-prelayernorm": _roberta(
        "roberta_prelayernorm",
        _PRE_NORM,
        {**_EMBEDDINGS, "encoder/final_norm": "LayerNorm"},
    ),
    "roberta": _roberta("roberta", _POST_NORM, _EMBEDDINGS),
    "xlm-roberta": _roberta("roberta", _POST_NORM, _EMBEDDINGS),
    "bert": Names(
        "bert",
        "encoder.layer",
        {**_ATTENTION, **_FEED_FORWARD, **_POST_NORM},
        {**_EMBEDDINGS, "pooler/dense": "pooler.dense"},
        _BERT_HEADS,
        "cls.predictions.decoder",
        "cls.predictions.bias",
    ),
    "distilbert": Names(
        "distilbert",
        "transformer.layer",
        _DISTILBERT_LAYER,
        _EMBEDDINGS,
        _DISTILBERT_HEADS,
        "vocab_projector",
        "vocab_projector.bias",
    ),
}


def huggingface_names(config: ModelConfig) -> dict[str, str]:
    """{our tensor: that of transformers}, with those of the pooler and of all heads."""
    names = NAMES[config.architecture]
    inside = {f"encoder/{table}_embedding": f"embeddings.{name}.weight" for table, name in _tables(config)}
    modules = dict(names.encoder)
    for layer in range(config.num_layers):
        for ours, theirs in names.layer.items():
            modules[f"encoder/layers/{layer}/{ours}"] = f"{names.layers}.{layer}.{theirs}"
    inside |= _weights_and_biases(modules)
    tensors = {ours: f"{names.prefix}.{theirs}" for ours, theirs in inside.items()}
    tensors |= _weights_and_biases(names.heads)
    if config.tied_output:
        return tensors | {"mlm_head/bias": names.bias}
    output = {"mlm_head/output_embedding": f"{names.output}.weight", "mlm_head/bias": f"{names.output}.bias"}
    return tensors | output


def _tables(config: ModelConfig) -> list[tuple[str, str]]:
    tables = [("token", "word_embeddings"), ("position", "position_embeddings")]
    return [*tables, ("token_type", "token_type_embeddings")] if config.token_types else tables


def _weights_and_biases(modules: dict[str, str]) -> dict[str, str]:
    tensors = {}
    for ours, theirs in modules.items():
        tensors[f"{ours}/{'scale' if ours.endswith('norm') else 'kernel'}"] = f"{theirs}.weight"
        tensors[f"{ours}/bias"] = f"{theirs}.bias"
    return tensors
