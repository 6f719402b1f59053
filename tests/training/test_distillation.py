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
from tlc_jax.models.encoder import encode, init_mlm
from tlc_jax.models.hidden_states import with_hidden_states
from tlc_jax.parallel.mesh import make_mesh, place
from tlc_jax.runs.memory import compile_abstract
from tlc_jax.tasks.kinds import kind_of
from tlc_jax.training.distillation import Distilled, Teacher, hidden_loss, soft_loss
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


@pytest.mark.parametrize("deeper", [2, 3, 4])
def test_the_loss_of_hidden_states_equals_its_formula(deeper: int) -> None:
    rng = np.random.default_rng(0)
    states, wanted = rng.normal(size=(2, 3, 5, 4)), rng.normal(size=(deeper, 3, 5, 4))
    counted, weights = rng.random((3, 5)) < 0.6, np.array([1.0, 0.0, 3.0])
    counted[:, 0] = True
    expected = 0.0
    for row in range(3):
        chosen = wanted[[{2: 0, 3: 1, 4: 1}[deeper], deeper - 1], row]
        errors = (states[:, row] - chosen)[:, counted[row]] ** 2
        expected += weights[row] * errors.mean()
    arrays = [jnp.asarray(x, jnp.float32) for x in (states, wanted, counted, weights)]
    assert float(hidden_loss(*arrays)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("shared", ["none", "all"])
def test_hidden_states_are_those_of_a_model_that_ends_there(shared: str) -> None:
    """Of BERT, whose layers end with their norm, as the encoder does."""
    options = {"architecture": "bert", "position_offset": 0, "token_types": 2, "shared_layers": shared}
    model = encoder(num_layers=3, **options)
    params = jax.jit(lambda key: init_mlm(model, key))(jax.random.key(0))
    tokens = jnp.asarray(np.random.default_rng(0).integers(5, VOCAB, (2, 6)))
    compute = jax.jit(lambda params: with_hidden_states(lambda: encode(model, params, tokens)))
    last, states = compute(params)
    assert states["layers"].shape == (3, 2, 6, 16)
    for depth in (1, 2, 3):
        shorter = dataclasses.replace(model, num_layers=depth)
        layers = params["encoder"]["layers"]
        cut = layers if shared == "all" else jax.tree.map(lambda x, depth=depth: x[:depth], layers)
        expected = encode(shorter, {"encoder": {**params["encoder"], "layers": cut}}, tokens)
        np.testing.assert_allclose(states["layers"][depth - 1], expected, atol=1e-5)
    np.testing.assert_array_equal(last, states["layers"][-1])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mlm", "translation"])
def test_hidden_states_of_the_tokens_that_count_are_learnt(name: str) -> None:
    """Of both sides of a translation; in two micro-batches as in one."""
    student, _, config, batch = pair(name, weight=0.3, hidden_weight=5.0)
    params, wanted = (student.init(jax.random.key(seed)) for seed in (0, 1))
    key = jax.random.key(2)
    plain, learnt = (
        Distilled(student, student, wanted, dataclasses.replace(config.distil, hidden_weight=w), config.model)
        for w in (0.0, 5.0)
    )
    total, sums = jax.jit(learnt.loss)(params, batch, key)
    without, _ = jax.jit(plain.loss)(params, batch, key)
    states, others = (
        jax.jit(lambda p: with_hidden_states(lambda: student.logits(p, batch))[1])(each)
        for each in (params, wanted)
    )
    tokens = {"encoder": "source", "decoder": "targets"} if name == "translation" else {"encoder": "tokens"}
    weights = np.asarray(batch["weights"]).reshape(len(batch["weights"]), -1).sum(axis=1)
    expected = 0.0
    for side, ids in tokens.items():
        error = np.asarray(states[f"{side}/layers"] - others[f"{side}/layers"], float) ** 2
        pad = 0 if name == "translation" else config.model.pad_id
        for row, real in enumerate(np.asarray(batch[ids]) != pad):
            expected += weights[row] * error[:, row][:, real].mean() / len(tokens)
    assert states.keys() == {f"{side}/layers" for side in tokens}
    assert float(sums["distil_hidden_loss"]) == pytest.approx(expected, rel=1e-4)
    assert float(total) == pytest.approx(float(without) + 5 * expected, rel=1e-4)
    run = jax.jit(lambda parts: summed_gradients(learnt, params, batch, key, parts), static_argnums=0)
    whole, halves = (run(parts)[0] for parts in (1, 2))
    for path, gradient in tree.flatten(halves).items():
        np.testing.assert_allclose(gradient, tree.flatten(whole)[path], rtol=1e-3, atol=1e-5, err_msg=path)


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
    student, teacher, config, batch = pair("mlm", weight=0.0, hidden_weight=0.0)
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
