"""Writes an encoder as a folder that Hugging Face's transformers loads; encoder_folder.py reads such folders.

model.safetensors       dense float32 tensors by the names of its class; linear weights are [out, in]
tokenizer.json          the tokenizer; ours puts <s> A </s> around one text, <s> A </s></s> B </s> around two
tokenizer_config.json   its special tokens config.json             sizes; written last

transformers has neither shared layers nor heads that do not fill the hidden size: a shared layer is written
once for each layer that uses it, and pruned heads are replaced by heads of zeros, with the same outputs. The
same input gives the same bytes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from tlc_jax.artifacts.encoder_config import HEADS, config_json
from tlc_jax.artifacts.model_folder import (
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
from tlc_jax.core.schema import TypedDict, checked, record
from tlc_jax.core.stacked import split
from tlc_jax.core.tree import Params, map_with_path
from tlc_jax.core.units import UnitKind
from tlc_jax.core.vocabulary import BOS, EOS, MASK_TOKEN, PAD, SPECIAL_TOKENS, UNK
from tlc_jax.storage.paths import AnyPath


@record
class _Added(TypedDict):
    id: int
    content: str


@record
class _Tokenizer(TypedDict):
    added_tokens: list[_Added]


_OURS = {
    "cls_token": SPECIAL_TOKENS[BOS],
    "sep_token": SPECIAL_TOKENS[EOS],
    "pad_token": SPECIAL_TOKENS[PAD],
    "unk_token": SPECIAL_TOKENS[UNK],
    "mask_token": MASK_TOKEN,
}


def write_huggingface(
    folder: AnyPath,
    params: Params,
    config: ModelConfig,
    tokenizer: bytes,
    names: Names,
    units: Sequence[UnitKind],
    label_names: tuple[str, ...] = (),
    head_dropout: float = 0.0,
    special: Mapping[str, str] | None = None,
) -> None:
    """Write the files into an empty folder. `tokenizer` is the content of a tokenizer.json, `special` that of
    the special_tokens_map.json beside it where its special tokens are not ours; `units` are those of the
    model family; a classification has `label_names` and dropout in its head."""
    head = next(name for name in HEADS if name in params)
    tensors = split(with_all_heads_and_layers(params, config, units))
    weights = {names[ours]: transposed(ours, x) for ours, x in tensors.items()}
    weights |= _unused(weights, config, names)
    document = json.loads(tokenizer)
    if special is None:
        document, special = _with_template(document), _OURS
    about = config_json(config, head, _special_ids(config, document, special), label_names, head_dropout)
    written = {
        "tokenizer.json": document,
        "tokenizer_config.json": _tokenizer_config(config, head, special),
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


def _unused(weights: Mapping[str, np.ndarray], config: ModelConfig, names: Names) -> dict[str, np.ndarray]:
    """Tensors that a class of transformers has, and that change nothing: a table of one token type, and the
    bias of the tied output matrix of a model whose matrix is not tied."""
    unused = {}
    if not config.token_types and config.architecture != "distilbert":
        table = names["encoder/position_embedding"].replace("position_embeddings", "token_type_embeddings")
        unused[table] = np.zeros((1, config.hidden_size), np.float32)
    own_bias = names["mlm_head/bias"]
    if own_bias in weights and own_bias.endswith(".decoder.bias"):
        unused[own_bias.replace(".decoder.bias", ".bias")] = weights[own_bias]
    return unused


def _special_ids(
    config: ModelConfig, tokenizer: Mapping[str, Any], special: Mapping[str, str]
) -> dict[str, int]:
    """The ids of beginning and end, which RoBERTa's configurations name."""
    if special is _OURS or config.position_offset == 0:
        return {"bos_token_id": BOS, "eos_token_id": EOS} if config.position_offset else {}
    try:
        added = checked(tokenizer, _Tokenizer)["added_tokens"]
    except ValueError as error:
        raise UserError(f"the model's tokenizer.json is damaged ({error}): put its own file back") from error
    ids = {token["content"]: token["id"] for token in added}
    roles = {"bos_token_id": "cls_token", "eos_token_id": "sep_token"}
    return {key: ids[special[role]] for key, role in roles.items() if special.get(role) in ids}


def _tokenizer_config(config: ModelConfig, head: str, special: Mapping[str, str]) -> dict[str, Any]:
    ends = {"bos_token": special["cls_token"], "eos_token": special["sep_token"]}
    types = ["token_type_ids"] if config.token_types else []
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": config.max_positions,
        "model_input_names": ["input_ids", *types, "attention_mask"],
        **(ends if config.position_offset else {}),
        **special,
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
