"""Conversion of a translation model to a folder that Hugging Face's transformers loads as a Pegasus.

Pegasus computes the same function as our encoder-decoder if its table of positions is replaced by ours (which
is saved with the weights), embeddings are scaled and biases of attention are zero. Its one embedding matrix
is written once (`tie_word_embeddings`). Our embedding of a pad is zero, but the pad's row in the matrix is
used in the output. The only pad that is ever attended to is the first token of a translation, always at
position 0 of the decoder, so the scaled row is subtracted from that position. LayerNorm's epsilon is always
1e-5 there. CTranslate2 converts such folders."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from tlc_jax.artifacts.model_folder import Names, heads_do_not_fit, json_file, transposed, write_arrays
from tlc_jax.config import EncoderDecoderConfig
from tlc_jax.core.errors import UserError
from tlc_jax.core.stacked import split
from tlc_jax.core.tree import Params
from tlc_jax.core.vocabulary import TRANSLATION_EOS as EOS
from tlc_jax.core.vocabulary import TRANSLATION_PAD as PAD
from tlc_jax.core.vocabulary import TRANSLATION_TOKENS as TOKENS
from tlc_jax.core.vocabulary import TRANSLATION_UNK as UNK
from tlc_jax.storage.paths import AnyPath

_EPSILON = 1e-5
_EMBEDDING = "shared/token_embedding"
_SIDES = ("encoder", "decoder")
_EMBEDDINGS = ("model.shared", "model.encoder.embed_tokens", "model.decoder.embed_tokens")
_OUTPUT = "lm_head.weight"
_DECODER_POSITIONS = "model.decoder.embed_positions.weight"


def pegasus_weights(params: Params, names: Names, positions: np.ndarray) -> dict[str, np.ndarray]:
    """The state dict without tied weights, in the type of the parameters. `names` are those of the model
    family, `positions` [longest, hidden] is the table that both sides add."""
    tensors = {name: np.asarray(x) for name, x in split(params).items()}
    embedding = tensors.pop(_EMBEDDING)
    weights = {names[ours]: transposed(ours, x) for ours, x in tensors.items()}
    for name in list(weights):
        if "_attn." in name:  # attention has biases there
            weights[name.replace(".weight", ".bias")] = np.zeros(len(weights[name]), embedding.dtype)
    looked_up = embedding.copy()
    looked_up[PAD] = 0
    weights |= {f"{name}.weight": looked_up for name in _EMBEDDINGS}
    weights |= {f"model.{side}.embed_positions.weight": positions.astype(embedding.dtype) for side in _SIDES}
    weights[_OUTPUT] = embedding
    weights["final_logits_bias"] = np.zeros((1, len(embedding)), embedding.dtype)
    return weights


def tied(weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The state dict with one embedding matrix, float32: the same outputs, but for rounding in the last
    digit."""
    tied_weights = {name: np.ascontiguousarray(x, np.float32) for name, x in weights.items()}
    matrix = tied_weights.pop(_OUTPUT)
    for name in _EMBEDDINGS[1:]:
        del tied_weights[f"{name}.weight"]
    table = tied_weights[_DECODER_POSITIONS].copy()
    table[0] -= matrix[PAD] * np.float32(math.sqrt(matrix.shape[1]))
    return tied_weights | {f"{_EMBEDDINGS[0]}.weight": matrix, _DECODER_POSITIONS: table}


def write_pegasus(
    folder: AnyPath,
    params: Params,
    config: EncoderDecoderConfig,
    tokenizer: bytes,
    names: Names,
    positions: np.ndarray,
) -> None:
    """Write the files into an empty folder. `tokenizer` is the content of a tokenizer.json."""
    if config.norm_epsilon != _EPSILON:
        raise UserError(
            f"model.norm_epsilon is {config.norm_epsilon}, but Hugging Face's Pegasus always has {_EPSILON}: "
            "its outputs would differ"
        )
    if config.heads * config.head_size != config.hidden_size:
        raise heads_do_not_fit(config)
    weights = tied(pegasus_weights(params, names, positions))
    ids = {"pad_token_id": PAD, "eos_token_id": EOS, "decoder_start_token_id": PAD, "bos_token_id": None}
    written = {
        "tokenizer.json": _with_end(json.loads(tokenizer)),
        "tokenizer_config.json": _tokenizer_config(len(positions)),
        # no token is forced at the last position, which is the default of Pegasus
        "generation_config.json": {**ids, "forced_eos_token_id": None, "max_length": len(positions)},
        "config.json": {**_config(config, len(positions)), **ids},
    }
    write_arrays(folder, weights, {name: json_file(content) for name, content in written.items()})


def _config(config: EncoderDecoderConfig, longest: int) -> dict[str, Any]:
    sides = {
        "layers": config.num_layers,
        "attention_heads": config.heads,
        "ffn_dim": config.feed_forward,
        "layerdrop": 0.0,
    }
    return {
        "architectures": ["PegasusForConditionalGeneration"],
        "model_type": "pegasus",
        "dtype": "float32",
        "vocab_size": config.vocab_size,
        "d_model": config.hidden_size,
        "num_hidden_layers": config.num_layers,
        "max_position_embeddings": longest,
        "activation_function": "relu",
        "scale_embedding": True,
        "tie_word_embeddings": True,
        "is_encoder_decoder": True,
        "dropout": config.dropout,
        "attention_dropout": config.attention_dropout,
        "activation_dropout": config.activation_dropout,
        "normalize_before": True,  # these two for CTranslate2's converter
        "normalize_embedding": False,
        **{f"{side}_{name}": value for side in _SIDES for name, value in sides.items()},
    }


def _tokenizer_config(longest: int) -> dict[str, Any]:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": longest,
        "model_input_names": ["input_ids", "attention_mask"],
        "pad_token": TOKENS[PAD],
        "eos_token": TOKENS[EOS],
        "unk_token": TOKENS[UNK],
        "clean_up_tokenization_spaces": False,
        "split_special_tokens": True,  # "</s>" in a sentence is four characters
    }


def _with_end(tokenizer: dict[str, Any]) -> dict[str, Any]:
    """The tokenizer with </s> behind every text, whatever it had."""
    end = {"SpecialToken": {"id": TOKENS[EOS], "type_id": 0}}
    one, two = ({"Sequence": {"id": name, "type_id": 0}} for name in ("A", "B"))
    return tokenizer | {
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [one, end],
            "pair": [one, end, two, end],
            "special_tokens": {TOKENS[EOS]: {"id": TOKENS[EOS], "ids": [EOS], "tokens": [TOKENS[EOS]]}},
        }
    }
