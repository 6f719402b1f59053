"""Compensated rounding and pruning against optimal brain surgery solved from scratch; properties."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.golden.make_gptq import BITS, DAMPENING, moment, weights
from tlc_jax.compression.elimination import eliminate, inverse_factor
from tlc_jax.compression.input_statistics import InputStatistics
from tlc_jax.compression.methods.prune_compensated import PruneCompensated
from tlc_jax.compression.methods.prune_wanda import PruneWanda
from tlc_jax.compression.methods.quantize_compensated import QuantizeCompensated, compensated_codes
from tlc_jax.compression.methods.quantize_uniform import Quantize
from tlc_jax.compression.pipeline import compress
from tlc_jax.compression.plain import FloatTensor
from tlc_jax.compression.quantize import quantize_tensor
from tlc_jax.compression.quantized import QuantizedTensor
from tlc_jax.compression.rounding import Grid
from tlc_jax.config.quantization import QuantSpec, Rule
from tlc_jax.core.errors import UserError

FOLDER = Path(__file__).parent.parent / "golden"
GOLDEN = dict(np.load(FOLDER / "gptq.npz")) if (FOLDER / "gptq.npz").exists() else {}
PRUNED = Rule(".*", QuantSpec(32), prune=True)


def drawn(inputs: int, outputs: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(a kernel [inputs, outputs], a second moment of correlated inputs)."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(4 * inputs, inputs)) / 3
    x += rng.normal(size=(4 * inputs, inputs // 3 + 1)) @ rng.normal(size=(inputs // 3 + 1, inputs))
    return rng.normal(size=(inputs, outputs)).astype(np.float32), x.T @ x / len(x)


def damped(second_moment: np.ndarray, dampening: float) -> np.ndarray:
    """The matrix that costs are of."""
    return second_moment + dampening * np.diag(second_moment).mean() * np.eye(len(second_moment))


def cost(change: np.ndarray, second_moment: np.ndarray) -> float:
    """tr(D^T H D) of the change of a kernel."""
    return float(np.einsum("io,ij,jo->", change, second_moment, change))


def surgery(w: np.ndarray, hessian: np.ndarray, fixed: dict[int, float]) -> np.ndarray:
    """One output's weights with some fixed to values, and the others such that the cost is least: the normal
    equations, solved directly."""
    held, free = sorted(fixed), [j for j in range(len(w)) if j not in fixed]
    change = np.zeros(len(w))
    change[held] = [fixed[j] - w[j] for j in held]
    if free:
        right = -hessian[np.ix_(free, held)] @ change[held]
        change[free] = np.linalg.solve(hessian[np.ix_(free, free)], right)
    return w + change


def kernel(values: np.ndarray, mask: np.ndarray | None = None) -> FloatTensor:
    return FloatTensor(values, mask)


def codes_of(
    step: QuantizeCompensated, w: np.ndarray, h: np.ndarray, spec: QuantSpec, mask=None
) -> QuantizedTensor:
    leaf = step.convert("a/kernel", kernel(w, mask), Rule(".*", spec), InputStatistics(h))
    assert isinstance(leaf, QuantizedTensor)
    return leaf


@pytest.mark.parametrize("inputs", [1, 5, 16])
@pytest.mark.parametrize(
    "spec", [QuantSpec(3, "row"), QuantSpec(2, zero="float"), QuantSpec(4, "row", "mse")]
)
@pytest.mark.parametrize("pruned", [False, True])
def test_rounding_is_surgery_one_weight_at_a_time(inputs: int, spec: QuantSpec, pruned: bool) -> None:
    """Each weight is the nearest code to where the least cost puts it, given those before it."""
    w, h = drawn(inputs, 3, inputs)
    mask = np.random.default_rng(1).random(w.shape) > 0.4 if pruned else None
    step = QuantizeCompensated(0.05)
    leaf, grid = codes_of(step, w, h, spec, mask), quantize_tensor("a/kernel", w, spec, mask)
    delta, offset = (np.broadcast_to(np.asarray(x, np.float64), (1, 3))[0] for x in (grid.delta, grid.offset))
    steps, order = np.arange(2**spec.bits), sorted(range(inputs), key=lambda j: -h[j, j])
    for output in range(3):
        values = delta[output] * steps + offset[output]
        if spec.zero == "nudged":
            values = delta[output] * (steps - offset[output])
        fixed: dict[int, float] = {}
        for j in order:
            wanted = surgery(w[:, output].astype(float), damped(h, 0.05), fixed)[j]
            kept = mask is None or mask[j, output]
            fixed[j] = values[np.argmin(np.abs(values - wanted))] if kept else 0.0
        got = np.asarray(leaf.dense())[:, output]
        np.testing.assert_allclose(got, [fixed[j] for j in range(inputs)], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("pattern", ["", "1:4"])
def test_pruning_is_surgery_one_input_at_a_time(pattern: str) -> None:
    """Which weights go, and what the others become."""
    w, h = drawn(16, 4, 3)
    step, hessian = PruneCompensated(0.4, pattern, 0.05), damped(h, 0.05)
    plan_masks = step.prune({"a/kernel": w}, {"a/kernel": PRUNED}, {}, {"a/kernel": InputStatistics(h)})
    leaf = step.convert("a/kernel", kernel(w, plan_masks["a/kernel"]), PRUNED, InputStatistics(h))
    size, gone = (4, 3) if pattern else (16, 0)
    present, fixed = w.astype(float).copy(), [dict[int, float]() for _ in range(4)]
    for start in range(0, 16, size):
        costs = np.empty((size, 4))
        for j in range(start, start + size):
            inverse = np.linalg.inv(hessian[j:, j:])[0, 0]  # of the inputs from j on
            costs[j - start] = present[j] ** 2 / inverse
        if pattern:
            chosen = [(j, o) for o in range(4) for j in np.argsort(costs[:, o])[:gone]]
        else:
            cheapest = np.argsort(costs, axis=None)[: round(0.4 * 64)]
            chosen = list(zip(*np.unravel_index(cheapest, costs.shape), strict=True))
        for j in range(size):
            for o in range(4):
                wanted = surgery(w[:, o].astype(float), hessian, fixed[o])[start + j]
                fixed[o][start + j] = 0.0 if (j, o) in chosen else wanted
        present = np.stack([surgery(w[:, o].astype(float), hessian, fixed[o]) for o in range(4)], axis=1)
    expected = np.array([[fixed[o][j] for o in range(4)] for j in range(16)])
    np.testing.assert_allclose(leaf.dense(), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(plan_masks["a/kernel"], expected != 0)


def test_costs_of_the_inputs_add_up_to_that_of_the_change() -> None:
    w, h = drawn(150, 7)
    factor, errors = inverse_factor(h, 0.01, "a/kernel"), []

    def settle(j: int, present: np.ndarray) -> np.ndarray:
        errors.append((present[j] - np.round(present[j])) / factor[j, j])
        return np.round(present[j])

    rounded = eliminate(w, factor, settle)
    expected = cost(rounded - w, damped(h, 0.01)) / np.diag(h).mean()
    np.testing.assert_allclose(np.square(errors).sum(), expected, rtol=1e-9)


@pytest.mark.parametrize(
    ("name", "spec"),
    [
        ("a/kernel", QuantSpec(2)),
        ("a/kernel", QuantSpec(8, "row", "percentile:1", "float")),
        ("a/kernel", QuantSpec(3, "group:8")),
        ("embedding", QuantSpec(1, "tensor", zero="float")),
        ("embedding", QuantSpec(4, "row", "mse")),
        ("embedding", QuantSpec(6, "group:16", "minmax", "float")),
        ("embedding", QuantSpec(3, "row", "mse", "symmetric")),
        ("a/kernel", QuantSpec(5, "row", zero="float", range_dtype="bfloat16")),
    ],
)
def test_with_independent_inputs_it_is_plain_rounding(name: str, spec: QuantSpec) -> None:
    """Bit for bit, whatever their sizes and order, zeros, ties and numbers too small for float32 included."""
    w, _ = drawn(160, 16)
    w[3], w[4], w[5, 0] = 0, 0.5, 1e-40
    w = w if name == "a/kernel" else np.ascontiguousarray(w.T)
    mask = np.random.default_rng(0).random(w.shape) > 0.3
    h = np.diag(np.random.default_rng(2).random(160) + 0.1)
    for kept in (None, mask):
        leaf = QuantizeCompensated().convert(name, kernel(w, kept), Rule(".*", spec), InputStatistics(h))
        np.testing.assert_array_equal(leaf.dense(), quantize_tensor(name, w, spec, kept).dense())


def test_rounding_costs_less_on_average() -> None:
    """As much as the theory says of errors that are uniform within a step; not for each single output."""
    w, h = drawn(9, 2000)
    made_up = codes_of(QuantizeCompensated(1e-9, largest_first=False), w, h, QuantSpec(6))
    plain = quantize_tensor("a/kernel", w, QuantSpec(6))
    changes = [np.asarray(leaf.dense()) - w for leaf in (made_up, plain)]
    costs = np.array([np.einsum("io,ij,jo->o", change, h, change) for change in changes])
    conditional = [1 / np.linalg.inv(h[j:, j:])[0, 0] for j in range(9)]
    variance = np.square(made_up.delta).item() / 12
    expected = 2000 * variance * np.array([np.sum(conditional), np.trace(h)])
    np.testing.assert_allclose(costs.sum(axis=1), expected, rtol=0.05)
    assert expected[0] < 0.4 * expected[1]
    assert 0 < np.mean(costs[0] > costs[1]) < 0.1


def test_pruning_costs_less_the_more_is_made_up_for() -> None:
    """Magnitude; Wanda's mask; the same mask with compensation, and the mask that is chosen with it."""
    w, h = drawn(256, 32)
    h *= np.outer(scale := np.exp(np.random.default_rng(5).normal(size=256)), scale)
    known = {"a/kernel": InputStatistics(h)}
    recipes = (PruneWanda(),), (PruneWanda(), PruneCompensated(0.0)), (PruneCompensated(),)
    costs = [
        cost(np.asarray(compress({"a/kernel": w}, r, inputs=known).dense()["a/kernel"]) - w, h)
        for r in recipes
    ]
    magnitude = np.where(np.abs(w) > np.median(np.abs(w)), w, 0)
    assert cost(magnitude - w, h) > 3 * costs[0]
    assert costs[0] > 1.5 * max(costs[1:])


def test_two_passes_are_one() -> None:
    """Pruning with compensation and then rounding with compensation is both in one pass."""
    w, h = drawn(140, 20)
    known, spec = {"a/kernel": InputStatistics(h)}, QuantSpec(3, "row")
    prune, quantize = PruneCompensated(0.5), QuantizeCompensated(largest_first=False)
    both = compress({"a/kernel": w}, (prune, quantize, Quantize(spec)), inputs=known)
    leaf, mask = both.tensors["a/kernel"], both.masks["a/kernel"]
    factor = inverse_factor(h, 0.01, "a/kernel")
    joint = compensated_codes(w, Grid.of("a/kernel", leaf), factor, np.arange(140), mask)
    differ = (joint != leaf.codes) & mask
    assert differ.mean() < 1e-3, "but for ties, since the first pass ends in float32"


def test_a_mask_of_an_earlier_step_is_made_up_for_and_stays() -> None:
    w, h = drawn(64, 8)
    mask = np.random.default_rng(0).random(w.shape) > 0.5
    spec = QuantSpec(8, "row")
    made_up = codes_of(QuantizeCompensated(), w, h, spec, mask).dense()
    assert (np.asarray(made_up)[~mask] == 0).all()
    plain = quantize_tensor("a/kernel", w, spec, mask).dense()
    assert cost(np.asarray(made_up) - w, h) < 0.8 * cost(np.asarray(plain) - w, h)
    finetuned = np.where(mask, w, 0)
    leaf = PruneCompensated(0.0).convert("a/kernel", kernel(finetuned, mask), PRUNED, InputStatistics(h))
    np.testing.assert_array_equal(leaf.dense(), finetuned)


@pytest.mark.parametrize("is_lookup", [False, True])
def test_wanda_is_its_equation(is_lookup: bool) -> None:
    w, h = drawn(12, 5)
    if is_lookup:  # [rows, hidden]: a linear map of one-hot rows, whose outputs are the hidden units
        uses = np.random.default_rng(0).dirichlet(np.ones(12))
        known, norms, name = InputStatistics(uses=uses), np.sqrt(uses), "embedding"
    else:
        known, norms, name = InputStatistics(h), np.sqrt(np.diag(h)), "a/kernel"
    mask = PruneWanda(0.25).prune({name: w}, {name: PRUNED}, {}, {name: known})[name]
    for output in range(5):
        scores = [abs(float(w[j, output])) * norms[j] for j in range(12)]
        assert set(np.flatnonzero(~mask[:, output])) == set(np.argsort(scores)[:3])


def test_a_tied_embedding_has_the_hessian_of_both_uses() -> None:
    """In units of their means; and the codes are those of that Hessian."""
    w, h = drawn(12, 5)
    embedding, both = np.ascontiguousarray(w.T), h / np.diag(h).mean() + np.eye(12)
    rule, tied = Rule(".*", QuantSpec(3, "row")), InputStatistics(h, uses=np.ones(5) / 5)
    leaves = [
        QuantizeCompensated().convert("embedding", kernel(embedding), rule, known)
        for known in (tied, InputStatistics(both), InputStatistics(h))
    ]
    np.testing.assert_array_equal(leaves[0].dense(), leaves[1].dense())
    assert (np.asarray(leaves[0].dense()) != leaves[2].dense()).any()


@pytest.mark.parametrize("step", [PruneWanda(pattern="2:4"), PruneCompensated(pattern="2:4")])
@pytest.mark.parametrize("name", ["a/kernel", "embedding"])
def test_patterns_run_along_rows(step: PruneWanda, name: str) -> None:
    w, h = drawn(16, 8)
    w = w if name == "a/kernel" else np.ascontiguousarray(w.T)
    for known in (InputStatistics(h), InputStatistics(uses=np.ones(8) / 8), InputStatistics()):
        mask = step.prune({name: w}, {name: PRUNED}, {}, {name: known})[name]
        groups = (mask.T if name == "a/kernel" else mask).reshape(-1, 4)
        assert (groups.sum(axis=1) == 2).all()


@pytest.mark.parametrize("name", ["a/kernel", "embedding"])
def test_too_little_dampening_is_refused_by_name(name: str) -> None:
    """The second moment of four inputs of twelve numbers has no inverse."""
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(4, 12)), rng.normal(size=(12, 5)).astype(np.float32)
    w = w if name == "a/kernel" else np.ascontiguousarray(w.T)
    known, mask, says = InputStatistics(x.T @ x), rng.random(w.shape) > 0.5, f"{name} has no inverse .* raise"
    with pytest.raises(UserError, match=says):
        QuantizeCompensated(1e-300).convert(name, kernel(w), Rule(".*", QuantSpec(4)), known)
    with pytest.raises(UserError, match=says):
        PruneCompensated(dampening=1e-300).prune({name: w}, {name: PRUNED}, {}, {name: known})
    with pytest.raises(UserError, match=says):
        PruneCompensated(0.0, dampening=1e-300).convert(name, kernel(w, mask), PRUNED, known)


@pytest.mark.parametrize("bits", BITS)
def test_codes_are_those_of_qwix(bits: int) -> None:
    """tests/golden/make_gptq.py made them with the core of qwix.contrib, in float32."""
    w, scale = weights(), GOLDEN[f"scale_{bits}"].reshape(-1)
    zero = np.full(scale.shape, 2 ** (bits - 1), np.int32)  # of symmetric codes
    grid = Grid(scale[None], zero[None], 2**bits - 1, len(w))
    factor = inverse_factor(moment(), DAMPENING, "a/kernel")
    ours = compensated_codes(w, grid, factor, np.arange(len(w)))
    theirs = GOLDEN[f"codes_{bits}"].astype(int).T + 2 ** (bits - 1)
    assert (ours != theirs).mean() < 0.002
    assert np.abs(ours - theirs).max() <= 1
