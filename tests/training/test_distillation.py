"""A student learns its teacher's predictions: loss and gradient against formulas."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tlc_jax.config import (
    BudgetConfig,
    ClassificationConfig,
    Config,
    DistilConfig,
    EncoderDecoderConfig,
    MeshConfig,
    MlmConfig,
    ModelConfig,
    PairsConfig,
    TranslationConfig,
)
from tlc_jax.core import tree
from tlc_jax.parallel.mesh import make_mesh, place
from tlc_jax.runs.memory import compile_abstract
from tlc_jax.tasks.kinds import kind_of
from tlc_jax.training.distillation import Distilled, Teacher, soft_loss
from tlc_jax.training.state import init_params, init_state
from tlc_jax.training.step import compile_train_step, make_train_step, summed_gradients

VOCAB = 24


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_soft_loss_and_its_gradient_equal_their_formulas(temperature: float) -> None:
    """Hinton et al. 2015: cross-entropy at a temperature T, times T^2; its gradient is T (q - p)."""
    rng = np.random.default_rng(0)
    student, teacher = rng.normal(0, 3, (2, 5, 3, 7))
    weights = rng.integers(0, 2, (5, 3)).astype(float)
    q, p = softmax(student / temperature), softmax(teacher / temperature)
    expected = -(temperature**2) * (weights[..., None] * p * np.log(q)).sum()
    gradient = temperature * weights[..., None] * (q - p)
    arrays = [jnp.asarray(x, jnp.float32) for x in (student, teacher, weights)]
    value, slope = jax.value_and_grad(soft_loss)(*arrays, temperature)
    assert float(value) == pytest.approx(expected, rel=1e-5)
    np.testing.assert_allclose(slope, gradient, atol=2e-5)


def encoder(**options: Any) -> ModelConfig:
    sizes = {"num_layers": 1, "hidden_size": 16, "head_size": 8, "vocab_size": VOCAB, "max_positions": 8}
    return ModelConfig(**{**sizes, "dropout": 0.0, "attention_dropout": 0.0, **options})


def config_of(name: str, **options: Any) -> Config:
    """A tiny config of a kind of task; `options` are of its distillation."""
    distil, budget = DistilConfig(teacher="a run", **options), BudgetConfig(steps=10)
    if name == "translation":
        model = EncoderDecoderConfig(num_layers=1, hidden_size=16, head_size=8, vocab_size=VOCAB)
        model = dataclasses.replace(model, dropout=0.0, attention_dropout=0.0, activation_dropout=0.0)
        return Config(
            model=model,
            task=TranslationConfig(label_smoothing=0.1),
            data=PairsConfig(sequence_length=8, packing=False),
            batch_size=64,
            budget=budget,
            distil=distil,
        )
    task = MlmConfig() if name == "mlm" else ClassificationConfig(dropout=0.0)
    config = Config(batch_size=8, task=task, budget=budget, distil=distil)
    data = dataclasses.replace(config.data, sequence_length=8)
    return dataclasses.replace(config, model=encoder(), data=data)


def batch_of(config: Config, classes: int) -> dict[str, jax.Array]:
    """Random ids, and weights that are 0 for some predictions."""
    rng, objective = np.random.default_rng(0), kind_of(config).objective(config, classes)
    lows, highs = {"positions": 0, "targets": 0}, {"positions": 8, "targets": classes or VOCAB}
    batch = {
        name: jnp.asarray(rng.integers(lows.get(name, 5), highs.get(name, VOCAB), x.shape), x.dtype)
        for name, x in objective.largest_batch().items()
    }
    return {**batch, "weights": jnp.asarray(rng.random(batch["weights"].shape) < 0.7, jnp.float32)}


KINDS = ("mlm", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("translation", "classification")))


def pair(name: str, **options: Any) -> tuple[Any, Any, Config, dict[str, jax.Array]]:
    """(student's objective, larger teacher's, config, batch)."""
    config, classes = config_of(name, **options), 3 if name == "classification" else 0
    wide = dataclasses.replace(config.model, hidden_size=24, num_layers=2)
    larger = dataclasses.replace(config, model=wide)
    student, teacher = (kind_of(each).objective(each, classes) for each in (config, larger))
    return student, teacher, config, batch_of(config, classes)


@pytest.mark.parametrize("name", KINDS)
def test_the_loss_mixes_task_and_teacher_on_the_predicted_positions(name: str) -> None:
    student, teacher, config, batch = pair(name, weight=0.3, temperature=2.0)
    params, wanted = student.init(jax.random.key(0)), teacher.init(jax.random.key(1))
    key = jax.random.key(2)
    learnt = Distilled(student, teacher, wanted, config.distil)
    narrow = {**batch, "attention_reach": jnp.int32(2)} if name == "mlm" else batch
    total, sums = jax.jit(learnt.loss)(params, narrow, key)
    plain, plain_sums = jax.jit(student.loss)(params, narrow, key)
    # the teacher sees the whole row, without dropout, whatever the schedule of the student
    q = softmax(np.asarray(jax.jit(student.logits)(params, narrow, key), float) / 2)
    p = softmax(np.asarray(jax.jit(teacher.logits)(wanted, batch), float) / 2)
    soft = -4 * (np.asarray(batch["weights"])[..., None] * p * np.log(q)).sum()
    assert float(total) == pytest.approx(0.7 * float(plain) + 0.3 * soft, rel=1e-5)
    assert float(sums["distil_loss"]) == pytest.approx(soft, rel=1e-5)
    for reported, value in plain_sums.items():
        assert float(sums[reported]) == pytest.approx(float(value), rel=1e-6), "metrics are those of the task"


@pytest.mark.parametrize("name", KINDS)
def test_a_student_that_equals_its_teacher_is_at_the_minimum(name: str) -> None:
    student, _, config, batch = pair(name, weight=1.0)
    params, other = (student.init(jax.random.key(seed)) for seed in (0, 1))

    @jax.jit
    def norm(params: Any, wanted: Any) -> jax.Array:
        learnt = Distilled(student, student, wanted, config.distil)
        grads, _ = summed_gradients(learnt, params, batch, jax.random.key(2), 2)
        return jnp.sqrt(sum(jnp.sum(g**2) for g in jax.tree.leaves(grads)))

    assert float(norm(params, params)) < 1e-3 * float(norm(params, other))


def updates(config: Config, teacher: Teacher | None, objective: Any, batch: Any, shape: tuple) -> Any:
    """Parameters and losses of five updates on a mesh."""
    mesh = make_mesh(MeshConfig(*shape), jax.devices()[: int(np.prod(shape))])
    state, optimizer = init_state(objective, config.optimizer, jax.random.key(0), mesh)
    control, key = {"learning_rate": np.array(1e-2, np.float32)}, jax.random.key(1)
    params = teacher and init_params(teacher.objective, jax.random.key(1), mesh)
    step = make_train_step(objective, config, optimizer, mesh, teacher and teacher.objective)
    placed = place(mesh, {name: np.asarray(x) for name, x in batch.items()})
    program = compile_train_step(step, state, [placed], key, control, mesh, teacher_params=params)
    losses = []
    for _ in range(5):
        state, sums = program(state, placed, key, control, params)
        losses.append(float(sums.get("distil_loss", sums["loss"])))
    return {path: np.asarray(x) for path, x in tree.flatten(state.params).items()}, losses


def test_weight_0_is_ordinary_training_bit_for_bit() -> None:
    student, teacher, config, batch = pair("mlm", weight=0.0)
    plain, _ = updates(config, None, student, batch, (1, 1, 1))
    distilled, _ = updates(config, Teacher(teacher, {}), student, batch, (1, 1, 1))
    for path, value in plain.items():
        np.testing.assert_array_equal(distilled[path], value, err_msg=path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mlm", "translation"])
def test_a_sharded_teacher_teaches_the_same(name: str) -> None:
    student, teacher, config, batch = pair(name)
    given = Teacher(teacher, {})
    _, alone = updates(config, given, student, batch, (1, 1, 1))
    for shape in ((8, 1, 1), (1, 4, 2)):
        _, losses = updates(config, given, student, batch, shape)
        np.testing.assert_allclose(losses, alone, rtol=1e-5)
    assert abs(alone[-1] / alone[0] - 1) > 1e-3, "the updates change it"


@pytest.mark.slow
def test_memory_and_operations_count_the_teacher() -> None:
    student, teacher, config, _ = pair("mlm")
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    peaks = [
        compile_abstract(student, config, mesh, [student.largest_batch()], each).peak_bytes
        for each in (None, teacher)
    ]
    assert peaks[1] >= peaks[0] + 4 * tree.count(jax.eval_shape(teacher.init, jax.random.key(0)))
    counts = Teacher(teacher, {}).operations()
    assert counts["flops"] == pytest.approx(teacher.update_flops(student.largest_batch()) / 3)
    assert counts["electra_flops"] == pytest.approx(teacher.operations()["electra_flops"] / 2)
