"""The pipeline against the paper's formulas in numpy, and what recipes and configs mean."""

from __future__ import annotations

import itertools
import json
import weakref
from collections.abc import Iterator, Mapping

import numpy as np
import pytest

from tlc_jax.artifacts.encoding import encode
from tlc_jax.compression.methods import (
    ByRule,
    FitBytes,
    KeepUnits,
    LowRank,
    PruneMagnitude,
    PruneNOfM,
    Quantize,
)
from tlc_jax.compression.methods.low_rank import LowRankTensor
from tlc_jax.compression.pipeline import compress, make_plan, recipe_of, shrinks
from tlc_jax.compression.steps import Needs
from tlc_jax.config.compression import CompressConfig, RecoveryConfig
from tlc_jax.config.quantization import QuantSpec, Rule
from tlc_jax.core.errors import UserError

SHAPES = {"token_embedding": (30, 8), "layers/0/kernel": (8, 12), "layers/0/bias": (12,)}


def drawn() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    return {name: rng.standard_t(3, size=shape).astype(np.float32) for name, shape in SHAPES.items()}


def by_formulas(tensors: dict[str, np.ndarray], sparsity: float, bits: int) -> dict[str, np.ndarray]:
    """Paper 4.3, then 4.2: the smallest of all matrices' weights become zero, the others are rounded to the
    grid of their range."""
    matrices = [name for name, x in tensors.items() if x.ndim == 2]
    order = np.argsort(np.concatenate([np.abs(tensors[name]).ravel() for name in matrices]), kind="stable")
    kept = np.ones(order.size, bool)
    kept[order[: round(sparsity * order.size)]] = False
    ends = np.cumsum([tensors[name].size for name in matrices])[:-1]
    masks = dict(zip(matrices, np.split(kept, ends), strict=True))
    result = {}
    for name, x in tensors.items():
        mask = masks[name].reshape(x.shape) if name in masks else np.ones(x.shape, bool)
        low, high = x[mask].min(), x[mask].max()
        delta = (high - low) / np.float32(2**bits - 1)
        codes = np.rint((np.clip(x, low, high) - low) / delta)
        result[name] = np.where(mask, low + delta * codes, 0)
    return result


@pytest.mark.parametrize(
    "steps", [*itertools.permutations((PruneMagnitude(0.45), Quantize(QuantSpec(6, zero="float"))))]
)
def test_a_recipe_is_the_papers_formulas_in_whatever_order(steps: tuple) -> None:
    result = compress(drawn(), steps)
    for name, x in by_formulas(drawn(), 0.45, 6).items():
        np.testing.assert_allclose(result.tensors[name].dense(), x, rtol=0, atol=2e-6, err_msg=name)
        assert ((np.asarray(result.tensors[name].dense()) == 0) >= (x == 0)).all()
    size, weights = result.sizes(), sum(x.size for x in drawn().values())
    kept = weights - round(0.45 * (30 * 8 + 8 * 12))
    assert (size.weights, size.nonzeros, size.paper_bytes) == (weights, kept, kept * 6 / 8)
    assert size.float32_bytes == 4 * weights


class OneAtATime(Mapping[str, np.ndarray]):
    """Tensors that are made when they are read; fails if more than two of them are alive."""

    def __init__(self) -> None:
        self.alive: weakref.WeakSet = weakref.WeakSet()

    def __getitem__(self, name: str) -> np.ndarray:
        x = drawn()[name].view(_Weak)
        self.alive.add(x)
        assert len(self.alive) <= 2, "the last one is still there while the next is read"
        return x

    def __iter__(self) -> Iterator[str]:
        return iter(SHAPES)

    def __len__(self) -> int:
        return len(SHAPES)


class _Weak(np.ndarray):
    """An array that can be referenced weakly, and hashed."""

    __hash__ = object.__hash__  # type: ignore[assignment]


def test_one_tensor_is_in_memory_at_a_time() -> None:
    recipe, source = (PruneMagnitude(0.45), Quantize(QuantSpec(6))), OneAtATime()
    whole = compress(drawn(), recipe)
    plan = make_plan(source, recipe)
    for name, x in source.items():
        np.testing.assert_array_equal(plan.convert(name, np.asarray(x)).dense(), whole.tensors[name].dense())


def test_the_first_step_that_says_how_a_tensor_is_quantized_decides() -> None:
    """The others hold for the rest; one with nothing left to it is named."""
    by_rule = ByRule((Rule(".*kernel", QuantSpec(4, "row"), why="first"), Rule(".*bias")))
    eight, three = Quantize(QuantSpec(8)), Quantize(QuantSpec(3))
    for recipe in itertools.permutations((by_rule, eight, three)):
        plan = make_plan(drawn(), recipe)
        bits = {name: encode(plan.convert(name, x), "plain")[0]["bits"] for name, x in drawn().items()}
        first = next(step.spec.bits for step in recipe if isinstance(step, Quantize))
        ruled = {"layers/0/kernel": 4, "layers/0/bias": 32} if recipe[0] is by_rule else {}
        assert bits == {**dict.fromkeys(SHAPES, first), **ruled}
        assert plan.idle() == ([2] if recipe[0] is by_rule else [1, 2])
    assert make_plan(drawn(), (by_rule, eight)).rules["layers/0/kernel"].why == "first"


def test_quantization_comes_last_whatever_the_order() -> None:
    """A step that stores a tensor in its own way finds it as it was; a second one finds nothing."""
    ranks = {LowRank(rank=1): 1, LowRank(rank=2): 2}
    for recipe in itertools.permutations((*ranks, Quantize(QuantSpec(5)))):
        plan, x = make_plan(drawn(), recipe), drawn()["layers/0/kernel"]
        leaf = plan.convert("layers/0/kernel", x)
        assert isinstance(leaf, LowRankTensor)
        entry = encode(leaf, "plain")[0]
        first, second = (step for step in recipe if isinstance(step, LowRank))
        assert (entry["rank"], entry["bits"]) == (ranks[first], 5)
        assert [recipe[index] for index in plan.idle()] == [second]


def test_what_is_pruned_counts_for_later_pruning() -> None:
    x = {"x": drawn()["token_embedding"]}
    for recipe, zeros in (
        ((PruneMagnitude(0.3), PruneMagnitude(0.5)), 120),
        ((PruneMagnitude(0.5), PruneMagnitude(0.3)), 120),
        ((PruneNOfM(2, 4), PruneMagnitude(0.5)), 120),
        ((PruneNOfM(2, 4), PruneMagnitude(0.6)), 144),
    ):
        assert int((~compress(x, recipe).masks["x"]).sum()) == zeros, recipe
    mask = compress(x, (PruneMagnitude(0.5), PruneNOfM(2, 4))).masks["x"]
    assert (mask.reshape(-1, 4).sum(axis=1) <= 2).all()
    assert (~mask).sum() > 120, "groups of more than two zeros get none back"


def test_a_sparsity_of_its_own_comes_beside_the_common_one() -> None:
    rules = (Rule(".*kernel", prune=True, sparsity=0.25), Rule(".*embedding", prune=True), Rule(".*"))
    masks = compress(drawn(), (ByRule(rules), PruneMagnitude(0.5))).masks
    assert {name: int((~mask).sum()) for name, mask in masks.items()} == {
        "layers/0/kernel": 24,
        "token_embedding": 120,
    }


def test_options_are_the_short_form_of_recipes() -> None:
    assert recipe_of(CompressConfig()) == (Quantize(),)
    options = CompressConfig(bits=4, sparsity=0.3, scope="layer", heads=2, range="mse", matrices_only=True)
    quantize = Quantize(QuantSpec(4, range="mse"), matrices_only=True)
    assert recipe_of(options) == (KeepUnits(heads=2), PruneMagnitude(0.3, "layer"), quantize)
    assert shrinks(recipe_of(options))
    assert not shrinks(recipe_of(CompressConfig()))
    rules = (Rule(".*", QuantSpec(3), prune=True),)
    assert recipe_of(CompressConfig(rules=rules, sparsity=0.3)) == (
        ByRule(rules),
        PruneMagnitude(0.3),
        Quantize(),
    )
    budget = CompressConfig(target_mb=2.0, sparsity=0.1, granularity="row")
    assert recipe_of(budget) == (PruneMagnitude(0.1), FitBytes(2.0, QuantSpec(granularity="row")))


def test_steps_of_a_config_come_between_pruning_and_quantization_and_are_recorded() -> None:
    further = KeepUnits(heads=3)
    config = CompressConfig(sparsity=0.2, steps=(further,))
    assert recipe_of(config) == (PruneMagnitude(0.2), further, Quantize())
    assert config.recorded()["steps"] == [{"step": "KeepUnits", "heads": 3, "feed_forward_size": None}]
    assert "steps" not in CompressConfig().recorded()
    json.dumps(config.recorded())
    with pytest.raises(TypeError, match="steps must be a tuple of CompressionStep"):
        CompressConfig(steps=("KeepUnits",))


def test_recovery_prunes_in_rounds_up_to_the_sparsity() -> None:
    (step, _) = recipe_of(CompressConfig(sparsity=0.4, recovery=RecoveryConfig(levels=(0.15, 0.3, 0.45))))
    assert isinstance(step, PruneMagnitude)
    assert step.needs is Needs.TRAINING
    assert step.rounds() == (PruneMagnitude(0.15), PruneMagnitude(0.3), PruneMagnitude(0.4))
    with pytest.raises(UserError, match="PruneMagnitude needs training: that takes a run"):
        compress(drawn(), (step,))
    with pytest.raises(ValueError, match="up to the sparsity, which is 0: give --sparsity"):
        CompressConfig(recovery=RecoveryConfig())
