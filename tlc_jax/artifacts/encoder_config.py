"""The config.json of an encoder of transformers, and our configuration of the same network.

What of theirs cannot be said in ours, such as another activation, is refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NotRequired, cast

from tlc_jax.config.model import Architecture, ModelConfig
from tlc_jax.core.printable import printable
from tlc_jax.core.schema import Name, TypedDict, checked, record

CLASSES = {
    "roberta-prelayernorm": "RobertaPreLayerNorm",
    "roberta": "Roberta",
    "xlm-roberta": "XLMRoberta",
    "bert": "Bert",
    "distilbert": "DistilBert",
}
"""What the names of the classes of each `model.architecture` begin with, which is `model_type` there."""
HEADS = {"mlm_head": "ForMaskedLM", "classification_head": "ForSequenceClassification"}
"""What they end with, by our head."""

# what a network here always has, and the values of transformers that say so
_FIXED: dict[str, Any] = {
    "hidden_act": "gelu",
    "is_decoder": False,
    "add_cross_attention": False,
    "position_embedding_type": "absolute",
    "pruned_heads": {},
    "quantization_config": None,
}
# DistilBERT's names of what the others call as we read it
_DISTILBERT = {
    "dim": "hidden_size",
    "n_layers": "num_hidden_layers",
    "n_heads": "num_attention_heads",
    "hidden_dim": "intermediate_size",
    "activation": "hidden_act",
    "dropout": "hidden_dropout_prob",
    "attention_dropout": "attention_probs_dropout_prob",
    "seq_classif_dropout": "classifier_dropout",
}
_DISTILBERT_EPSILON = 1e-12  # a constant of its code


@record
class _Encoder(TypedDict):
    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    max_position_embeddings: int
    hidden_dropout_prob: NotRequired[float | int]
    attention_probs_dropout_prob: NotRequired[float | int]
    initializer_range: NotRequired[float | int]
    layer_norm_eps: NotRequired[float | int]
    type_vocab_size: NotRequired[int]
    pad_token_id: NotRequired[int]
    tie_word_embeddings: NotRequired[bool]


@record
class _Labels(TypedDict):
    id2label: NotRequired[dict[Name, Name] | None]
    architectures: NotRequired[list[Name] | None]


def model_config(about: Mapping[str, Any]) -> ModelConfig:
    """Our configuration of the encoder that a config.json describes; a key that it lacks has the default of
    transformers. ValueError names what is not supported."""
    kind = about.get("model_type")
    if kind not in CLASSES:
        raise ValueError(f"its model_type is {_shown(kind)}, and supported are {', '.join(CLASSES)}")
    if kind == "distilbert":
        about = {_DISTILBERT.get(name, name): value for name, value in about.items()}
    for name, value in _FIXED.items():
        if about.get(name, value) not in (value, None):
            raise ValueError(
                f"its {_theirs(name, kind)} is {_shown(about[name])}, and supported is {value!r}"
            )
    given = checked(dict(about), _Encoder)
    absolute = kind in ("bert", "distilbert")
    pad = given.get("pad_token_id", 0 if absolute else 1)
    offset = 0 if absolute else pad + 1
    hidden, heads, inner = (
        given[name] for name in ("hidden_size", "num_attention_heads", "intermediate_size")
    )
    if heads < 1 or hidden % heads:
        raise ValueError(f"its {heads} attention heads do not divide its hidden size of {hidden}")
    types = 0 if kind == "distilbert" else given.get("type_vocab_size", 2)
    epsilon = _DISTILBERT_EPSILON if kind == "distilbert" else given.get("layer_norm_eps", 1e-12)
    return ModelConfig(
        architecture=cast(Architecture, kind),
        num_layers=given["num_hidden_layers"],
        hidden_size=hidden,
        head_size=hidden // heads,
        feed_forward_size=None if inner == 4 * hidden else inner,
        vocab_size=given["vocab_size"],
        max_positions=given["max_position_embeddings"] - offset,
        dropout=given.get("hidden_dropout_prob", 0.1),
        attention_dropout=given.get("attention_probs_dropout_prob", 0.1),
        initializer_stddev=given.get("initializer_range", 0.02),
        pad_id=pad,
        position_offset=offset,
        token_types=0 if types == 1 else types,  # one row is added to the positions
        norm_epsilon=epsilon,
        tied_output=given.get("tie_word_embeddings", True),
    )


def label_names(about: Mapping[str, Any], count: int) -> tuple[str, ...]:
    """The names of the classes of a classification."""
    given = checked(dict(about), _Labels).get("id2label") or {}
    return tuple(given.get(str(i), f"LABEL_{i}") for i in range(count))


def class_name(about: Mapping[str, Any]) -> str:
    """The class that a folder was written by; of an encoder alone where it does not say so."""
    given = checked(dict(about), _Labels).get("architectures")
    return given[0] if given else f"{CLASSES[about['model_type']]}Model"


def config_json(
    config: ModelConfig,
    head: str,
    special: Mapping[str, int],
    label_names: tuple[str, ...] = (),
    head_dropout: float = 0.0,
) -> dict[str, Any]:
    """The config.json of an encoder with one of HEADS. `special` has the ids of special tokens that their
    configurations name: `bos_token_id` and so on; the pad's is that of `config`."""
    kind = config.architecture
    about: dict[str, Any] = {
        "architectures": [f"{CLASSES[kind]}{HEADS[head]}"],
        "model_type": kind,
        "dtype": "float32",
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.hidden_size // config.head_size,
        "intermediate_size": config.feed_forward,
        "max_position_embeddings": config.max_positions + config.position_offset,
        "type_vocab_size": config.token_types or 1,
        "hidden_dropout_prob": config.dropout,
        "attention_probs_dropout_prob": config.attention_dropout,
        "initializer_range": config.stddev,
        "layer_norm_eps": config.norm_epsilon,
        "hidden_act": "gelu",
        "pad_token_id": config.pad_id,
        **special,
        "is_decoder": False,
        "tie_word_embeddings": config.tied_output,
    }
    if head == "classification_head":
        about |= {"classifier_dropout": head_dropout, "problem_type": "single_label_classification"}
        about |= {"id2label": {str(i): name for i, name in enumerate(label_names)}}
        about |= {"label2id": {name: i for i, name in enumerate(label_names)}}
    if kind != "distilbert":
        return about
    named = {theirs: ours for ours, theirs in _DISTILBERT.items()}
    without = ("type_vocab_size", "layer_norm_eps", "is_decoder")
    return {named.get(name, name): value for name, value in about.items() if name not in without}


def _theirs(name: str, kind: str) -> str:
    named = {theirs: ours for ours, theirs in _DISTILBERT.items()}
    return named.get(name, name) if kind == "distilbert" else name


def _shown(value: Any) -> str:
    return printable(repr(value), 60)
