"""What every step of compression/methods/ has to do: a new one is tested by being listed there."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from tlc_jax.artifacts.encoding import decode, encode
from tlc_jax.compression.input_statistics import InputStatistics
from tlc_jax.compression.methods import STEPS
from tlc_jax.compression.pipeline import Compressed, compress, make_plan, shrink
from tlc_jax.compression.steps import Model, Needs, Step
from tlc_jax.config import ModelConfig
from tlc_jax.core.errors import UserError
from tlc_jax.core.leaf import Masks
from tlc_jax.core.schema import checked
from tlc_jax.core.stacked import split
from tlc_jax.core.tree import count
from tlc_jax.models.families import family_of

EXAMPLES = [step for kind in STEPS for step in kind.examples()]
SHAPES = {
    "encoder/token_embedding": (40, 16),
    "encoder/layers/0/attention/query/kernel": (16, 24),
    "encoder/layers/0/attention/query/bias": (24,),
    "encoder/layers/1/attention/query/kernel": (16, 24),
    "encoder/layers/1/attention/query/bias": (24,),
    "encoder/layers/0/feed_forward/expand/kernel": (16, 20),
    "classification_head/dense/kernel": (16, 16),
    "odd/kernel": (7, 5),
    "scale": (),
    "empty": (0, 4),
}
EXTREMES = {
    "zeros": lambda x: np.zeros_like(x),
    "equal": lambda x: np.full_like(x, -0.5),
    "large": lambda x: (x / np.abs(x).max(initial=1) * 1e38).astype(np.float32),
    "small": lambda x: (x * 1e-39).astype(np.float32),
    "one far out": lambda x: np.where(np.arange(x.size).reshape(x.shape) == 0, np.float32(1e30), x),
}


def drawn(seed: int = 0) -> dict[str, np.ndarray]:
    """Trained-like weights with exact zeros, a scalar, an empty tensor, and integers."""
    rng = np.random.default_rng(seed)
    tensors = {name: rng.standard_t(3, size=shape).astype(np.float32) for name, shape in SHAPES.items()}
    tensors = {name: np.where(rng.random(x.shape) < 0.05, np.float32(0), x) for name, x in tensors.items()}
    return {**tensors, "positions": np.arange(9, dtype=np.int64)}


def pruned_before() -> Masks:
    """Masks of what an earlier compression pruned."""
    rng = np.random.default_rng(7)
    return {name: rng.random(SHAPES[name]) > 0.2 for name in ("encoder/token_embedding", "odd/kernel")}


@functools.cache
def statistics() -> dict[str, InputStatistics]:
    """Of most matrices; the embedding is looked up, and the inputs of odd/kernel are unknown."""
    rng = np.random.default_rng(3)
    known: dict[str, InputStatistics] = {}
    for name in (name for name in SHAPES if name.endswith("kernel") and name != "odd/kernel"):
        inputs = rng.normal(size=(50, SHAPES[name][0])) @ rng.normal(size=(SHAPES[name][0],) * 2)
        known[name] = InputStatistics(inputs.T @ inputs / len(inputs))
    uses = rng.dirichlet(np.full(40, 0.3))
    return known | {"encoder/token_embedding": InputStatistics(uses=uses)}


def compressed(step: Step, tensors: Mapping[str, Any], masks: Masks | None = None) -> Compressed:
    return compress(tensors, (step,), masks=masks, inputs=statistics())


def same(a: Any, b: Any) -> bool:
    """Whether two arrays have the same type, shape and bits."""
    a, b = np.asarray(a), np.asarray(b)
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


@pytest.fixture(params=EXAMPLES, ids=[f"{type(step).__name__}{i}" for i, step in enumerate(EXAMPLES)])
def step(request: pytest.FixtureRequest) -> Step:
    return request.param


class ReadFromFiles(Mapping[str, np.ndarray]):
    """Tensors that exist only while somebody holds them."""

    def __init__(self, tensors: dict[str, np.ndarray]):
        self._tensors = tensors

    def __getitem__(self, name: str) -> np.ndarray:
        return self._tensors[name].copy()

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)


@pytest.mark.slow
def test_it_is_deterministic_and_leaves_its_input_alone(step: Step) -> None:
    tensors, masks = drawn(), pruned_before()
    first, second = compressed(step, tensors, masks), compressed(step, drawn(), pruned_before())
    for name, leaf in first.tensors.items():
        parts, again = encode(leaf, "plain")[1], encode(second.tensors[name], "plain")[1]
        assert all(same(again[part], x) for part, x in parts.items()), name
        assert same(tensors[name], drawn()[name]), name
    assert all(same(mask, pruned_before()[name]) for name, mask in masks.items())


def test_tensor_by_tensor_is_the_whole_model(step: Step) -> None:
    """Also from jax arrays, which a run has."""
    tensors = drawn()
    whole = compressed(step, tensors, pruned_before())
    read = compressed(step, ReadFromFiles(tensors), pruned_before())
    on_device = compressed(step, {name: jnp.asarray(x) for name, x in tensors.items()}, pruned_before())
    for name, leaf in whole.tensors.items():
        assert same(leaf.dense(), read.tensors[name].dense()), name
        if tensors[name].dtype == np.float32:
            assert same(leaf.dense(), on_device.tensors[name].dense()), name
    plan = make_plan(ReadFromFiles(tensors), (step,), masks=pruned_before(), inputs=statistics())
    assert plan.masks.keys() == whole.masks.keys()
    assert all(same(mask, whole.masks[name]) for name, mask in plan.masks.items())


def test_masks_only_grow_and_what_they_prune_is_exactly_zero(step: Step) -> None:
    before = pruned_before()
    result = compressed(step, drawn(), before)
    for name, mask in before.items():
        assert not (np.asarray(result.masks[name]) & ~mask).any(), name
    for name, mask in result.masks.items():
        pruned = np.asarray(result.tensors[name].dense())[~np.asarray(mask)]
        assert (pruned == 0).all(), name
        assert not np.signbit(pruned).any(), name
    again = compressed(step, result.dense(), result.masks)
    assert all(not (np.asarray(again.masks[n]) & ~np.asarray(mask)).any() for n, mask in result.masks.items())


def test_what_any_other_step_pruned_stays_pruned(step: Step) -> None:
    tensors = drawn()
    for other in EXAMPLES:
        if {other.needs, step.needs} <= {Needs.NOTHING, Needs.CALIBRATION}:
            before = make_plan(tensors, (other,), inputs=statistics()).masks
            try:
                after = make_plan(tensors, (step,), masks=before, inputs=statistics()).masks
            except UserError:  # its cap refuses what has lost more already
                continue
            for name, mask in before.items():
                assert not (np.asarray(after[name]) & ~np.asarray(mask)).any(), f"{other}: {name}"


@pytest.mark.parametrize("coding", ["plain", "brotli"])
def test_leaves_come_back_bit_for_bit_from_what_is_stored(step: Step, coding: str) -> None:
    for name, leaf in compressed(step, drawn(), pruned_before()).tensors.items():
        entry, parts = encode(leaf, coding)
        entry = json.loads(json.dumps(entry))
        parts = safetensors.numpy.load(safetensors.numpy.save(parts))
        checked(entry, type(leaf).schema)
        back = decode(entry, parts)
        assert type(back) is type(leaf), name
        assert same(back.dense(), np.asarray(leaf.dense())), name
        assert encode(back, coding)[0] == {**entry, "nonzeros": encode(back, coding)[0]["nonzeros"]}, name
        with pytest.raises(ValueError, match="its parts are"):
            decode(entry, {**parts, "extra": np.zeros(3, np.uint8)})


def test_sizes_are_those_of_what_is_stored(step: Step) -> None:
    tensors = drawn()
    result = compressed(step, tensors, pruned_before())
    for name, leaf in result.tensors.items():
        entry, parts = encode(leaf, "plain")
        size, floats = leaf.sizes(), tensors[name].dtype.kind == "f"
        assert size.format_bytes == sum(part.nbytes for part in parts.values()), name
        assert size.weights == (tensors[name].size if floats else 0), "no more weights than before"
        assert size.nonzeros <= size.weights, name
        assert size.paper_bytes <= size.float32_bytes == tensors[name].size * (4 if floats else 8), name
        if floats:
            assert (entry["weights"], entry["nonzeros"]) == (size.weights, size.nonzeros), name
        assert leaf.shape == tensors[name].shape, name
    total = result.sizes()
    assert total.weights == sum(leaf.sizes().weights for leaf in result.tensors.values())


def test_integers_are_no_weights(step: Step) -> None:
    assert same(compressed(step, drawn()).tensors["positions"].dense(), np.arange(9, dtype=np.int64))


@pytest.mark.parametrize("kind", EXTREMES)
def test_extreme_weights_stay_finite(step: Step, kind: str) -> None:
    tensors = {name: EXTREMES[kind](x) for name, x in drawn().items() if x.dtype == np.float32}
    for name, x in compressed(step, tensors).dense().items():
        assert np.isfinite(np.asarray(x)).all(), name


def test_leaves_are_pytrees(step: Step) -> None:
    """So that a compressed model is moved and transformed as one."""
    for leaf in compressed(step, drawn(), pruned_before()).tensors.values():
        moved = jax.tree.map(lambda x: x, leaf)
        assert same(moved.dense(), leaf.dense())


CONFIG = ModelConfig(num_layers=2, hidden_size=16, head_size=4, vocab_size=30, max_positions=8)


def test_a_smaller_model_is_one_of_its_family(step: Step) -> None:
    family = family_of(CONFIG)
    shapes = jax.eval_shape(lambda key: family.init(CONFIG, key), jax.random.key(0))
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32), shapes)
    tokens = np.arange(CONFIG.vocab_size)[:-4]
    whole = Model(params, CONFIG, family.prunable_units(CONFIG), {}, tokens, family.keep_tokens)
    smaller = shrink(whole, (step,))
    expected = jax.eval_shape(lambda key: family.init(smaller.config, key), jax.random.key(0))
    assert jax.tree.map(jnp.shape, smaller.params) == jax.tree.map(jnp.shape, expected)
    assert smaller.units == family.prunable_units(smaller.config)
    assert count(smaller.params) <= count(params)
    assert shrink(smaller, (step,)) is smaller, "once is enough"
    if smaller is not whole:
        masks = {name: np.ones(x.shape, bool) for name, x in split(params).items()}
        pruned = dataclasses.replace(whole, masks=masks)
        if not step.reads_tokens:
            with pytest.raises(UserError, match="pruned weights"):
                shrink(pruned, (step,))
            return
        fewer = shrink(pruned, (step,))
        shapes = {name: x.shape for name, x in split(fewer.params).items()}
        assert {name: mask.shape for name, mask in fewer.masks.items()} == shapes


# --- of each kind of step ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", STEPS)
def test_options_are_checked(kind: type[Step]) -> None:
    for field in dataclasses.fields(kind):
        for value in (object(), float("nan"), -1.0, -1):
            with pytest.raises((ValueError, TypeError, UserError)) as refused:
                kind(**{field.name: value})
            if value == -1 and isinstance(refused.value, TypeError):
                assert field.name in str(refused.value)


@pytest.mark.parametrize("kind", STEPS)
def test_what_is_not_there_is_asked_for(kind: type[Step]) -> None:
    for step in kind.examples():
        if step.needs is not Needs.NOTHING:
            with pytest.raises(UserError, match=rf"{kind.__name__} needs {step.needs.value}"):
                make_plan(drawn(), (step,))
