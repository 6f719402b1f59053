"""The pruner against a stable sort in numpy, and by its properties."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tlc_jax.compression.methods import PruneMagnitude, Quantize
from tlc_jax.compression.pipeline import compress, make_plan
from tlc_jax.compression.prune import apply_masks, magnitude_masks, nearly_gone
from tlc_jax.compression.select import default_rules, select
from tlc_jax.compression.threshold import nth_smallest
from tlc_jax.config.quantization import QuantSpec, Rule
from tlc_jax.core.errors import UserError


def drawn(seed: int = 0) -> dict[str, np.ndarray]:
    """Two layers, an embedding and vectors; with ties."""
    rng = np.random.default_rng(seed)
    shapes = {
        "encoder/token_embedding": (70, 32),
        "encoder/layers/0/attention/query/kernel": (32, 32),
        "encoder/layers/0/attention/query/bias": (32,),
        "encoder/layers/1/attention/query/kernel": (32, 32),
        "encoder/layers/1/attention/query/bias": (32,),
    }
    scale = {"encoder/layers/0/attention/query/kernel": 0.3}
    return {
        name: (scale.get(name, 1) * rng.normal(size=shape)).round(3).astype(np.float32)
        for name, shape in shapes.items()
    }


def matrices(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: x for name, x in tensors.items() if x.ndim == 2}


def pruned_count(masks: dict[str, np.ndarray]) -> int:
    return sum(int((~mask).sum()) for mask in masks.values())


def by_sorting(arrays: list[np.ndarray], count: int) -> list[np.ndarray]:
    """False at the `count` smallest magnitudes, the first ones among equals."""
    order = np.argsort(np.concatenate([np.abs(x).ravel() for x in arrays]), kind="stable")
    kept = np.ones(order.size, bool)
    kept[order[:count]] = False
    ends = np.cumsum([x.size for x in arrays])[:-1]
    return [part.reshape(x.shape) for part, x in zip(np.split(kept, ends), arrays, strict=True)]


@pytest.mark.parametrize("sparsity", [0.0, 0.15, 0.45, 0.9, 0.999])
def test_global_takes_the_smallest_of_all(sparsity: float) -> None:
    tensors = matrices(drawn())
    masks = magnitude_masks(tensors, sparsity)
    size = sum(x.size for x in tensors.values())
    assert pruned_count(masks) == round(sparsity * size)
    expected = by_sorting(list(tensors.values()), round(sparsity * size))
    for (name, mask), other in zip(masks.items(), expected, strict=True):
        np.testing.assert_array_equal(mask, other, err_msg=name)


@pytest.mark.parametrize("sparsity", [0.15, 0.6])
def test_tensor_and_layer_take_the_same_share_of_each(sparsity: float) -> None:
    tensors = matrices(drawn())
    for name, mask in magnitude_masks(tensors, sparsity, "tensor").items():
        np.testing.assert_array_equal(mask, by_sorting([tensors[name]], round(sparsity * mask.size))[0])
    two = {f"encoder/layers/0/{i}/kernel": x[:20] for i, x in enumerate(tensors.values())}
    other = {"encoder/layers/1/0/kernel": tensors["encoder/layers/0/attention/query/kernel"]}
    masks = magnitude_masks({**two, **other}, sparsity, "layer")
    for layer in (two, other):
        count = round(sparsity * sum(x.size for x in layer.values()))
        for name, mask in zip(layer, by_sorting(list(layer.values()), count), strict=True):
            np.testing.assert_array_equal(masks[name], mask, err_msg=name)


def test_equal_weights_go_in_order() -> None:
    masks = magnitude_masks({"a": np.full((2, 3), -0.5, np.float32), "b": np.full(4, 0.5, np.float32)}, 0.7)
    np.testing.assert_array_equal(masks["a"], np.zeros((2, 3), bool))
    np.testing.assert_array_equal(masks["b"], [False, True, True, True])


@pytest.mark.slow
def test_counts_are_exact_above_2_to_the_24th() -> None:
    """float32 cannot count them: 0.15 of 2^24 + 2^20 + 1 weights, most of them equal."""
    size = 2**24 + 2**20 + 1
    x = np.ones(size, np.float32)
    assert pruned_count(magnitude_masks({"a": x}, 0.95)) == round(0.95 * size)


@given(values=st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=60))
def test_nth_smallest_is_that_of_a_sort(values: list[float]) -> None:
    keys = np.abs(np.array(values, np.float32)).view(np.uint32) + np.uint32(1)
    for n in range(1, len(keys) + 1):
        limit = np.sort(keys)[n - 1]
        assert nth_smallest(lambda: np.array_split(keys, 3), n) == (limit, int((keys < limit).sum()))


@given(levels=st.lists(st.floats(0, 0.95), min_size=2, max_size=4), seed=st.integers(0, 99))
def test_masks_are_monotone_whatever_the_weights_do(levels: list[float], seed: int) -> None:
    rng = np.random.default_rng(seed)
    masks, before = None, np.ones((7, 9), bool)
    for level in levels:
        masks = magnitude_masks({"kernel": rng.normal(size=(7, 9)).astype(np.float32)}, level, previous=masks)
        now = masks["kernel"]
        assert not (now & ~before).any(), "nothing comes back"
        assert (~now).sum() == max(round(level * 63), (~before).sum()), "a lower level prunes nothing more"
        before = now


@given(cap=st.floats(0.3, 1), sparsity=st.floats(0, 0.9), seed=st.integers(0, 99))
def test_cap_holds_for_every_tensor(cap: float, sparsity: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    tensors = {name: rng.normal(size=(9, 11)).astype(np.float32) * s for name, s in (("a", 0.01), ("b", 1))}
    room = 2 * int(cap * 99)
    if round(sparsity * 198) > room:
        with pytest.raises(UserError, match=f"the cap on a tensor's sparsity leaves {room:,}: raise it"):
            magnitude_masks(tensors, sparsity, cap=cap)
        return
    masks = magnitude_masks(tensors, sparsity, cap=cap)
    assert pruned_count(masks) == round(sparsity * 198)
    assert all((~mask).sum() <= cap * 99 for mask in masks.values())
    for name, mask in masks.items():  # within a tensor still the smallest
        gone, kept = np.abs(tensors[name])[~mask], np.abs(tensors[name])[mask]
        assert gone.max(initial=0) <= kept.min(initial=np.inf)


def test_what_nearly_goes_is_named() -> None:
    tensors = {"small": np.full((10, 20), 1e-6, np.float32), "large": np.ones((30, 20), np.float32)}
    assert nearly_gone(magnitude_masks(tensors, 0.25)) == ["small"]
    assert nearly_gone(magnitude_masks(tensors, 0.25, cap=0.9)) == []


@pytest.mark.parametrize("sparsity", [-0.1, 1.0])
def test_impossible_sparsity_is_refused(sparsity: float) -> None:
    with pytest.raises(UserError, match="sparsity must be in"):
        magnitude_masks(drawn(), sparsity)


def test_not_a_number_is_refused() -> None:
    with pytest.raises(UserError, match="b has values that are not finite"):
        magnitude_masks({"a": np.ones(3, np.float32), "b": np.array([1, np.nan], np.float32)}, 0.5)


def test_the_default_rules_are_the_papers() -> None:
    """All matrices may be pruned but the head of a classification; names count for nothing else."""
    tensors = {**drawn(), "classification_head/dense/kernel": np.full((32, 32), 1e-6, np.float32)}
    tensors |= {"positions": np.arange(4), "odd.weight\nname": np.ones((2, 2), np.float32)}
    tensors["scale"] = np.ones((), np.float32)
    rules = default_rules(tensors)
    assert rules["scale"].why == "not pruned: a scalar"
    pruned = {name for name, rule in rules.items() if rule.prune}
    assert pruned == {*matrices(drawn()), "odd.weight\nname"}
    assert all(bool(rule.why) != rule.prune for rule in rules.values())
    planned = make_plan(tensors, (Quantize(QuantSpec(6), matrices_only=True),)).rules
    left = {name for name, rule in planned.items() if rule.quant is None}
    assert left == {"positions", "scale", *(name for name in tensors if name.endswith("bias"))}


def test_rules_must_fit() -> None:
    tensors = drawn()
    assert "encoder/token_embedding" not in select(tensors, [Rule(r".*/(kernel|bias)", QuantSpec(4))])
    with pytest.raises(UserError, match="decoder.* match no parameter"):
        select(tensors, [Rule(r"decoder/.*"), Rule(".*", QuantSpec(4))])
    with pytest.raises(UserError, match="prunes encoder/layers/0/attention/query/bias, which is a vector"):
        select(tensors, [Rule(".*", prune=True)])


def test_pruned_then_quantized_stays_pruned() -> None:
    tensors, step = matrices(drawn()), Quantize(QuantSpec(4, zero="float"))
    result = compress(tensors, (PruneMagnitude(0.6), step))
    plain = compress(apply_masks(tensors, result.masks), (step,)).dense()
    revived = 0
    for name, mask in result.masks.items():
        zeros = np.asarray(result.tensors[name].dense())[~mask]
        assert (zeros == 0).all()
        assert not np.signbit(zeros).any()
        revived += int((np.asarray(plain[name])[~mask] != 0).sum())
    assert revived > 0, "without the mask, zero is not on the grid: the test has teeth"


def test_paper_bytes() -> None:
    tensors, size = drawn(), sum(x.size for x in drawn().values())
    assert compress(tensors, ()).sizes().paper_bytes == 4 * size
    kept = size - round(0.6 * sum(x.size for x in matrices(tensors).values()))
    for bits in (6, 32):
        found = compress(tensors, (PruneMagnitude(0.6), Quantize(QuantSpec(bits)))).sizes()
        assert (found.weights, found.nonzeros, found.paper_bytes) == (size, kept, kept * bits / 8)


def test_apply_masks_gives_no_negative_zero() -> None:
    found = np.asarray(apply_masks({"a": jnp.array([-1.0, 2.0])}, {"a": np.array([False, True])})["a"])
    assert not np.signbit(found[0])
