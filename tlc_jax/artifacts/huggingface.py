"""Conversion of an encoder to and from a folder that Hugging Face's transformers loads.

model.safetensors       dense float32 tensors by RobertaPreLayerNorm's names; linear weights are [out, in]
tokenizer.json          the tokenizer; puts <s> A </s> around one text, <s> A </s></s> B </s> around two
tokenizer_config.json   its special tokens config.json             sizes; written last

transformers has neither shared layers nor heads that do not fill the hidden size: a shared layer is written
once for each layer that uses it, and pruned heads are replaced by heads of zeros, with the same outputs. The
same input gives the same bytes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import safetensors
import safetensors.numpy

from tlc_jax.artifacts.model_folder import (
    WEIGHTS,
    Names,
    heads_do_not_fit,
    json_file,
    transposed,
    write_arrays,
)
from tlc_jax.compression.plain import plain
from tlc_jax.config import ModelConfig
from tlc_jax.core.errors import UserError
from tlc_jax.core.leaf import Leaf
from tlc_jax.core.stacked import join, split
from tlc_jax.core.tree import Params, map_with_path
from tlc_jax.core.units import UnitKind
from tlc_jax.core.vocabulary import BOS, EOS, MASK_TOKEN, PAD, SPECIAL_TOKENS, UNK
from tlc_jax.storage.paths import AnyPath
from tlc_jax.storage.untrusted import read_bytes, read_json, size_of

# we have no token types: one row of zeros is written, and a row that is read is added to the positions
_TOKEN_TYPES = "roberta_prelayernorm.embeddings.token_type_embeddings.weight"
# copies of other tensors, which transformers omits
_TIED = {"lm_head.decoder.weight", "lm_head.decoder.bias"}
_HEADS = {"mlm_head": "MaskedLM", "classification_head": "SequenceClassification"}
# options of transformers that are constants here; these are its defaults, the epsilon is not
_FIXED = {
    "hidden_act": "gelu",
    "pad_token_id": PAD,
    "bos_token_id": BOS,
    "eos_token_id": EOS,
    "is_decoder": False,
    "tie_word_embeddings": True,
}
_EPSILON = 1e-5


def write_huggingface(
    folder: AnyPath,
    params: Params,
    config: ModelConfig,
    tokenizer: bytes,
    names: Names,
    units: Sequence[UnitKind],
    label_names: tuple[str, ...] = (),
    head_dropout: float = 0.0,
) -> None:
    """Write the files into an empty folder. `tokenizer` is the content of a tokenizer.json; `units` are
    those of the model family; a classification has `label_names` and dropout in its head."""
    head = next(name for name in _HEADS if name in params)
    tensors = split(with_all_heads_and_layers(params, config, units))
    weights = {names[ours]: transposed(ours, x) for ours, x in tensors.items()}
    weights[_TOKEN_TYPES] = np.zeros((1, config.hidden_size), np.float32)
    about = _config(config, head)
    if head == "classification_head":
        about |= {"classifier_dropout": head_dropout, "problem_type": "single_label_classification"}
        about |= {"id2label": {str(i): name for i, name in enumerate(label_names)}}
        about |= {"label2id": {name: i for i, name in enumerate(label_names)}}
    written = {
        "tokenizer.json": _with_template(json.loads(tokenizer)),
        "tokenizer_config.json": _tokenizer_config(config, head),
        "config.json": about,
    }
    write_arrays(folder, weights, {name: json_file(content) for name, content in written.items()})


def by_huggingface_names(
    tensors: Mapping[str, Leaf], dense: Mapping[str, np.ndarray], names: Names
) -> dict[str, Leaf]:
    """The leaves by the names and in the layout of `dense`, the arrays that `write_huggingface` wrote. Where
    a leaf has no codes, or `dense` has more than the leaves, the dense array is taken."""
    named = {name: plain(x) for name, x in dense.items()}
    for ours, theirs in names.items():
        if theirs not in dense:  # of another head
            continue
        first = re.sub(r"/layers/\d+/", "/layers/0/", ours)
        leaf = tensors[ours if ours in tensors else first].on_grid()
        if leaf is not None:
            leaf = jax.tree.map(lambda part: np.asarray(part).T, leaf) if ours.endswith("/kernel") else leaf
            if leaf.shape != dense[theirs].shape:
                raise UserError(
                    f"{ours} lost heads, and codes of zeros for them are not written: export dense"
                )
            named[theirs] = leaf
    return named


def import_huggingface(
    folder: AnyPath, naming: Callable[[ModelConfig], Names]
) -> tuple[Params, ModelConfig, tuple[str, ...]]:
    """(float32 parameters, their configuration, label names of a classification) of a folder with a
    RobertaPreLayerNorm for masked language modelling or classification. UserError where it is another."""
    try:
        about = read_json(folder / "config.json")
        weights = safetensors.numpy.load(read_bytes(folder / WEIGHTS, size_of(folder / WEIGHTS)))
    except (OSError, ValueError, KeyError, safetensors.SafetensorError) as error:
        raise UserError(
            f"{folder} is not a model with config.json and {WEIGHTS} ({type(error).__name__}: {error})"
        ) from error
    try:
        config = _model_config(about)
        params = params_from_huggingface(weights, naming(config))
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder} holds a model that cannot be imported: {error}") from error
    if "classification_head" not in params:
        return params, config, ()
    count = len(params["classification_head"]["output"]["bias"])
    given = about.get("id2label", {})
    return params, config, tuple(given.get(str(i), f"LABEL_{i}") for i in range(count))


def params_from_huggingface(weights: Mapping[str, np.ndarray], names: Names) -> Params:
    """Float32 parameters from a state dict of numpy arrays. ValueError names tensors that are missing or
    unknown."""
    head = "mlm_head" if "lm_head.bias" in weights else "classification_head"
    names = {ours: theirs for ours, theirs in names.items() if ours.startswith(("encoder/", f"{head}/"))}
    missing = {*names.values()} - weights.keys()
    unknown = weights.keys() - {*names.values(), _TOKEN_TYPES, *_TIED}
    if missing or unknown:
        raise ValueError(f"tensors missing: {sorted(missing)}, unknown: {sorted(unknown)}")
    tensors = {ours: transposed(ours, weights[theirs].astype(np.float32)) for ours, theirs in names.items()}
    types = weights.get(_TOKEN_TYPES)
    if types is not None and types[0].any():
        tensors["encoder/position_embedding"] = tensors["encoder/position_embedding"] + types[:1]
    return join(tensors)


def with_all_heads_and_layers(params: Params, config: ModelConfig, units: Sequence[UnitKind]) -> Params:
    """Float32 arrays on the host of a model with the same outputs, in which every layer has its own
    parameters and hidden_size / head_size heads, the last of them zeros where heads were pruned."""
    width, hidden = config.heads * config.head_size, config.hidden_size
    if width > hidden or hidden % config.head_size:
        raise heads_do_not_fit(config)

    axes = {path: i for kind in units if kind.field == "num_heads" for path, i in kind.axes.items()}

    def fill(path: str, x: Any) -> np.ndarray:
        x = np.asarray(x, np.float32)
        if not path.startswith("encoder/layers/"):
            return x
        if path in axes:
            x = np.pad(x, [(0, hidden - width if i == axes[path] else 0) for i in range(x.ndim)])
        return np.broadcast_to(x, (config.num_layers, *x.shape[1:]))

    return map_with_path(fill, params)


def _config(config: ModelConfig, head: str) -> dict[str, Any]:
    return {
        "architectures": [f"RobertaPreLayerNormFor{_HEADS[head]}"],
        "model_type": "roberta-prelayernorm",
        "dtype": "float32",
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.hidden_size // config.head_size,
        "intermediate_size": config.feed_forward,
        "max_position_embeddings": config.max_positions + PAD + 1,
        "type_vocab_size": 1,
        "hidden_dropout_prob": config.dropout,
        "attention_probs_dropout_prob": config.attention_dropout,
        "initializer_range": config.stddev,
        "layer_norm_eps": _EPSILON,
        **_FIXED,
    }


def _model_config(about: dict[str, Any]) -> ModelConfig:
    fixed = {"model_type": "roberta-prelayernorm", "layer_norm_eps": _EPSILON, **_FIXED}
    given = {**_FIXED, **about}
    if wrong := {name: given.get(name) for name, value in fixed.items() if given.get(name) != value}:
        raise ValueError(f"it has {wrong}, but must have { ({name: fixed[name] for name in wrong}) }")
    hidden, feed_forward = about["hidden_size"], about["intermediate_size"]
    return ModelConfig(
        num_layers=about["num_hidden_layers"],
        hidden_size=hidden,
        head_size=hidden // about["num_attention_heads"],
        feed_forward_size=None if feed_forward == 4 * hidden else feed_forward,
        vocab_size=about["vocab_size"],
        max_positions=about["max_position_embeddings"] - PAD - 1,
        dropout=about["hidden_dropout_prob"],
        attention_dropout=about["attention_probs_dropout_prob"],
        initializer_stddev=about["initializer_range"],
    )


def _tokenizer_config(config: ModelConfig, head: str) -> dict[str, Any]:
    bos, eos = SPECIAL_TOKENS[BOS], SPECIAL_TOKENS[EOS]
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": config.max_positions,
        "model_input_names": ["input_ids", "attention_mask"],
        "bos_token": bos,
        "eos_token": eos,
        "cls_token": bos,
        "sep_token": eos,
        "pad_token": SPECIAL_TOKENS[PAD],
        "unk_token": SPECIAL_TOKENS[UNK],
        "mask_token": MASK_TOKEN,
        "clean_up_tokenization_spaces": False,
        # in our data "<s>" is three characters of text; users of a language model write <mask>
        "split_special_tokens": head == "classification_head",
    }


def _with_template(tokenizer: dict[str, Any]) -> dict[str, Any]:
    """The tokenizer with special tokens around texts as in our examples, whatever it had before."""

    def special(token: int) -> dict[str, Any]:
        return {"SpecialToken": {"id": SPECIAL_TOKENS[token], "type_id": 0}}

    def text(name: str) -> dict[str, Any]:
        return {"Sequence": {"id": name, "type_id": 0}}

    one = [special(BOS), text("A"), special(EOS)]
    named = {SPECIAL_TOKENS[token]: token for token in (BOS, EOS)}
    return tokenizer | {
        "post_processor": {
            "type": "TemplateProcessing",
            "single": one,
            "pair": [*one, special(EOS), text("B"), special(EOS)],
            "special_tokens": {
                name: {"id": name, "ids": [token], "tokens": [name]} for name, token in named.items()
            },
        }
    }
