"""Artifacts with random codes, of any size, with a tokenizer and text to evaluate them on: what a model needs
at use does not depend on what it has learned."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from tlc_jax.artifacts.artifact import write_artifact
from tlc_jax.artifacts.model_card import ModelCard
from tlc_jax.compression.plain import FloatTensor
from tlc_jax.compression.quantized import QuantizedTensor
from tlc_jax.config import (
    Config,
    DataConfig,
    EncoderDecoderConfig,
    MlmConfig,
    ModelConfig,
    PairsConfig,
    TranslationConfig,
)
from tlc_jax.config.quantization import QuantSpec
from tlc_jax.core.leaf import Leaf
from tlc_jax.core.packed import summed_axis
from tlc_jax.core.sizes import Sizes
from tlc_jax.core.stacked import nested, tensor_names
from tlc_jax.core.tree import Params, flatten
from tlc_jax.core.vocabulary import TRANSLATION_EOS
from tlc_jax.data.tokenizer import train_tokenizer
from tlc_jax.models.families import family_of
from tlc_jax.tasks.kinds import kind_of

GROUP = 64
VOCABULARY = 32_768
LENGTH = 128
ROWS = 4  # of an evaluation at once
_FAR = 1000.0  # times a row of the embedding, beside which everything else is small


def encoder(layers: int, width: int) -> Config:
    model = ModelConfig(num_layers=layers, hidden_size=width, vocab_size=VOCABULARY, max_positions=LENGTH)
    return Config(model=model, task=MlmConfig(), data=DataConfig(sequence_length=LENGTH), batch_size=ROWS)


def translation(layers: int, width: int) -> Config:
    model = EncoderDecoderConfig(num_layers=layers, hidden_size=width, vocab_size=VOCABULARY)
    data = PairsConfig(train="train.tsv", validation="validation.tsv", sequence_length=LENGTH // 4)
    return Config(model=model, task=TranslationConfig(), data=data, batch_size=ROWS * LENGTH)


def write(folder: Path, config: Config, bits: int, *, ends: bool = False) -> dict[str, Any]:
    """An artifact of the model of a config, and its manifest: matrices of codes with a range for each 64
    weights, or float32 with 32 bits. Vectors are float32. A translation model with random weights does not
    end its translations; with `ends` each is </s> alone."""
    sizes, leaves = Sizes(), dict[str, Leaf]()
    for number, (name, shape) in enumerate(tensors(config)):
        leaves[name] = random_leaf(name, shape, bits, np.random.default_rng(number))
    if ends:  # the vector that is added before the product with the embedding is the row of </s>
        end = np.asarray(leaves["shared/token_embedding"].dense())[TRANSLATION_EOS]
        leaves["decoder/final_norm/bias"] = FloatTensor((_FAR * end).astype(np.float32))

    def items() -> Iterator[tuple[str, Leaf, dict[str, Any]]]:
        nonlocal sizes
        for name, leaf in leaves.items():
            sizes += leaf.sizes()
            yield name, leaf, {"relative_error": 0.0}

    def about() -> dict[str, Any]:
        size = dataclasses.asdict(sizes)
        return {"source": {"kind": "run", "step": 1}, "label_names": [], "size": size}

    def card(manifest: Any) -> ModelCard:
        return ModelCard(folder.name, "Random codes", None, "random_artifacts.py", {}, "", manifest=manifest)

    others = {
        "config.json": json.dumps(dataclasses.asdict(config)).encode(),
        "tokenizer.json": tokenizer(kind_of(config).tokenizer_layout),
    }
    return write_artifact(folder, items(), about, others, coding="plain", card=card)


def tensors(config: Config) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes of all tensors of a model."""
    init = functools.partial(family_of(config.model).init, config.model)
    for path, x in sorted(flatten(jax.eval_shape(init, jax.random.key(0))).items()):
        names = tensor_names(path, x)
        yield from ((name, x.shape if names == [path] else x.shape[1:]) for name in names)


def random_leaf(name: str, shape: tuple[int, ...], bits: int, random: np.random.Generator) -> Leaf:
    """Values of about the size of a trained model's."""
    if len(shape) != 2:
        return FloatTensor(np.full(shape, name.endswith("scale"), np.float32))
    if bits == 32:
        return FloatTensor(random.normal(0, 0.03, shape).astype(np.float32))
    blocks = list(shape)
    blocks[summed_axis(name)] //= GROUP
    delta = random.uniform(0.05, 0.15, blocks).astype(np.float32) / 2**bits
    offset = np.full(blocks, 2 ** (bits - 1), np.int32)
    codes = random.integers(0, 2**bits, shape, np.uint8)
    return QuantizedTensor(codes, delta, offset, None, QuantSpec(bits, f"group:{GROUP}"))


def abstract(config: Config, bits: int) -> Params:
    """Shapes and types of the parameters that a model keeps of such an artifact."""
    init, kept = functools.partial(family_of(config.model).init, config.model), dict[str, Any]()
    for path, x in flatten(jax.eval_shape(init, jax.random.key(0))).items():
        layers, shape = ((), x.shape) if tensor_names(path, x) == [path] else (x.shape[:1], x.shape[1:])
        leaf = random_leaf(path, shape, bits, np.random.default_rng(0))
        weight = leaf.packed(bits, summed_axis(path)) or leaf.dense()
        kept[path] = jax.tree.map(
            lambda part, layers=layers: jax.ShapeDtypeStruct((*layers, *part.shape), part.dtype), weight
        )
    return nested(kept)


def text(words: int, seed: int) -> str:
    """Random words, of whose letters any tokenizer can be made."""
    random = np.random.default_rng(seed)
    letters = np.array(list("etaoinshrdlucmfwypvbgk"))
    ends = random.integers(2, 9, words).cumsum()
    return " ".join("".join(word) for word in np.split(random.choice(letters, ends[-1]), ends[:-1]))


@functools.cache
def tokenizer(layout: Any) -> bytes:
    lines = (text(1000, seed) for seed in range(300))
    return train_tokenizer(lines, VOCABULARY, layout).to_str().encode()
