"""One update: accumulation, devices and dropout keys change how it is computed, not what."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh
from rich.console import Console

from tlc_jax.config import BudgetConfig, Config, DataConfig, MeshConfig, ModelConfig
from tlc_jax.core import tree
from tlc_jax.data.text.text_packing import prepare_text
from tlc_jax.parallel.mesh import AXES, make_mesh, place, rows_of
from tlc_jax.tasks.mlm import MaskedLanguageModelling
from tlc_jax.training.evaluator import Evaluator
from tlc_jax.training.state import init_state
from tlc_jax.training.step import compile_train_step, make_train_step, summed_gradients

VOCAB = 300
EVERY = slice  # of a batch of n rows: the first n
MODEL = ModelConfig(
    num_layers=2,
    hidden_size=32,
    head_size=8,
    vocab_size=VOCAB,
    max_positions=32,
    dropout=0.0,
    attention_dropout=0.0,
)


@pytest.fixture(scope="module")
def config(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Config:
    cache = tmp_path_factory.mktemp("cache")
    data = DataConfig(dir=str(corpus), cache_dir=str(cache), sequence_length=32, held_out=0.1)
    return Config(model=MODEL, data=data, batch_size=16, budget=BudgetConfig(steps=100))


@pytest.fixture(scope="module")
def task(config: Config) -> MaskedLanguageModelling:
    return MaskedLanguageModelling(config, prepare_text(config.data, VOCAB, Console(quiet=True)))


def one_device() -> Mesh:
    return jax.make_mesh((1, 1, 1), AXES, axis_types=(AxisType.Auto,) * 3, devices=jax.devices()[:1])


def on_device(batch: dict[str, np.ndarray]) -> dict[str, jax.Array]:
    return {name: jnp.asarray(value) for name, value in batch.items()}


def unequal(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The batch with fewer and fewer predictions towards its end, as padded rows have them."""
    weights = batch["weights"].copy()
    for row in range(len(weights)):
        weights[row, max(0, weights.shape[1] - row // 3) :] = 0
    return {**batch, "weights": weights}


def mean_gradients(*args):
    grads, sums = summed_gradients(*args)
    return jax.tree.map(lambda g: g / sums["weight"], grads), sums


@pytest.mark.slow
@pytest.mark.parametrize("micro_batches", [2, 4, 16])
def test_accumulation_equals_the_one_big_batch(task: MaskedLanguageModelling, micro_batches: int) -> None:
    params = task.init(jax.random.key(0))
    batch = unequal(task.train_batch(0, EVERY))
    counts = batch["weights"].sum(axis=1)
    assert len(set(counts)) > 3, "rows have unequal numbers of predictions"
    key = jax.random.key(1)
    run = jax.jit(lambda n: mean_gradients(task, params, on_device(batch), key, n), static_argnums=0)
    whole, whole_sums = run(1)
    parts, sums = run(micro_batches)
    assert float(sums["weight"]) == float(whole_sums["weight"]) == counts.sum()
    assert float(sums["loss"]) == pytest.approx(float(whole_sums["loss"]), rel=1e-5)
    for path, gradient in tree.flatten(parts).items():
        np.testing.assert_allclose(gradient, tree.flatten(whole)[path], rtol=1e-4, atol=1e-7, err_msg=path)


@pytest.mark.slow
def test_the_mean_of_means_would_differ(task: MaskedLanguageModelling) -> None:
    """The check above has teeth: averaging micro-batch gradients gives another gradient."""
    params = task.init(jax.random.key(0))
    batch = unequal(task.train_batch(0, EVERY))
    run = jax.jit(lambda batch: mean_gradients(task, params, batch, jax.random.key(1), 1)[0])
    whole = run(on_device(batch))
    halves = [{name: x[i::2] for name, x in batch.items()} for i in range(2)]
    halves = [{**half, "weights": half["weights"] * (1.0 if i else 0.25)} for i, half in enumerate(halves)]
    means = [run(on_device(half)) for half in halves]
    mean = jax.tree.map(lambda a, b: (a + b) / 2, *means)
    worst = max(
        float(jnp.abs(m - w).max() / jnp.abs(w).max())
        for m, w in zip(jax.tree.leaves(mean), jax.tree.leaves(whole), strict=True)
    )
    assert worst > 1e-3


def losses(task: MaskedLanguageModelling, config: Config, mesh: Mesh, steps: int) -> tuple[list[float], dict]:
    state, optimizer = init_state(task, config.optimizer, jax.random.key(0), mesh)
    key = jax.random.key(1)
    found, step_fn = [], make_train_step(task, config, optimizer, mesh)
    control, compiled = {"learning_rate": np.array(3e-3, np.float32)}, None
    for step in range(steps):
        batch = place(mesh, task.train_batch(step, rows_of(mesh)))
        compiled = compiled or compile_train_step(step_fn, state, [batch], key, control, mesh)
        state, sums = compiled(state, batch, key, control)
        found.append(float(sums["loss"] / sums["weight"]))
    assert int(state.step) == steps
    return found, {path: np.asarray(value) for path, value in tree.flatten(state.params).items()}


@pytest.mark.slow
def test_the_same_run_twice_is_bit_equal_and_dropout_follows_the_key(
    task: MaskedLanguageModelling, config: Config
) -> None:
    wet = dataclasses.replace(config, model=dataclasses.replace(MODEL, dropout=0.2), micro_batch=8)
    wet_task = MaskedLanguageModelling(wet, prepare_text(wet.data, VOCAB, Console(quiet=True)))
    first, second = (losses(wet_task, wet, one_device(), 3) for _ in range(2))
    assert first[0] == second[0]
    for path, value in first[1].items():
        np.testing.assert_array_equal(value, second[1][path], err_msg=path)
    assert losses(task, config, one_device(), 3)[0] != first[0]


@pytest.mark.slow
def test_micro_batches_take_dropout_keys_of_their_own(task: MaskedLanguageModelling, config: Config) -> None:
    """Twice the same rows: with one key for both micro-batches their losses would be equal."""
    wet = dataclasses.replace(config, model=dataclasses.replace(MODEL, dropout=0.5))
    wet_task = MaskedLanguageModelling(wet, prepare_text(wet.data, VOCAB, Console(quiet=True)))
    params = wet_task.init(jax.random.key(0))
    half = wet_task.train_batch(0, lambda _: slice(0, 8))
    twice = {name: np.repeat(x, 2, axis=0) for name, x in half.items()}
    key = jax.random.key(3)
    _, both = jax.jit(lambda batch: summed_gradients(wet_task, params, batch, key, 2))(on_device(twice))
    loss = jax.jit(lambda batch, i: wet_task.loss(params, batch, jax.random.fold_in(key, i))[0])
    each = [loss(on_device(half), i) for i in range(2)]
    assert float(each[0]) != float(each[1])
    assert float(both["loss"]) == pytest.approx(float(sum(each)), rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [8, 24, 64])
def test_evaluation_counts_every_row_once(task: MaskedLanguageModelling, batch_size: int) -> None:
    """Against a sum over rows one at a time, with batches that do not divide the set."""
    params = task.init(jax.random.key(0))
    size = task.evaluation_size("held_out")
    assert size % 24, "the last batch is a part"
    found = Evaluator(task, batch_size, make_mesh(MeshConfig()))(params, ["held_out"])
    total = weight = correct = 0.0
    one_row = jax.jit(lambda batch: task.loss(params, batch, None)[1])
    for batch in task.evaluation_batches("held_out", 1, EVERY):
        sums = one_row(on_device(batch))
        total, weight = total + float(sums["loss"]), weight + float(sums["weight"])
        correct += float(sums["correct"])
    assert found["eval/held_out/loss"] == pytest.approx(total / weight, rel=1e-6)
    assert found["eval/held_out/accuracy"] == pytest.approx(correct / weight, rel=1e-9)
    assert found["eval/held_out/perplexity"] == pytest.approx(np.exp(total / weight), rel=1e-5)


def test_batches_are_pure_and_host_sliceable(task: MaskedLanguageModelling) -> None:
    whole = task.train_batch(7, EVERY)
    parts = [task.train_batch(7, lambda _, start=start: slice(start, start + 4)) for start in range(0, 16, 4)]
    for name, value in whole.items():
        np.testing.assert_array_equal(value, np.concatenate([part[name] for part in parts]))
    assert not np.array_equal(whole["tokens"], task.train_batch(8, EVERY)["tokens"])


def test_rows_are_masked_anew_each_epoch(task: MaskedLanguageModelling) -> None:
    rows = len(task._train)
    per_epoch = rows // 16 + 1
    seen: dict[bytes, set[bytes]] = {}
    for step in range(2 * per_epoch):
        batch = task.train_batch(step, EVERY)
        original = batch["tokens"].copy()
        row, slot = np.nonzero(batch["weights"])
        original[row, batch["positions"][row, slot]] = batch["targets"][row, slot]
        for row, places in zip(original, batch["positions"], strict=True):
            seen.setdefault(row.tobytes(), set()).add(places.tobytes())
    assert np.mean([len(places) > 1 for places in seen.values()]) > 0.9


@pytest.mark.slow
def test_a_step_that_is_not_finite_changes_nothing_but_the_count(
    task: MaskedLanguageModelling, config: Config
) -> None:
    mesh, key = one_device(), jax.random.key(1)
    state, optimizer = init_state(task, config.optimizer, jax.random.key(0), mesh)
    step = jax.jit(make_train_step(task, config, optimizer, mesh))
    control = {"learning_rate": np.array(3e-3, np.float32)}
    batch = task.train_batch(0, EVERY)
    state, sums = step(state, on_device(batch), key, control)
    assert float(sums["skipped_steps"]) == 0
    for bad in (np.nan, np.inf):
        weights = np.where(np.arange(batch["weights"].shape[1]) == 3, bad, batch["weights"])
        after, sums = step(state, on_device({**batch, "weights": weights.astype(np.float32)}), key, control)
        assert {name: float(value) for name, value in sums.items() if value} == {"skipped_steps": 1.0}
        assert int(after.step) == int(state.step) + 1
        before = jax.tree.leaves((state.params, state.optimizer))
        for ours, theirs in zip(jax.tree.leaves((after.params, after.optimizer)), before, strict=True):
            np.testing.assert_array_equal(ours, theirs)
