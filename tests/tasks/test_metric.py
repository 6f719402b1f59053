"""Metrics against their definitions: directions, Matthews of scikit-learn, nats per byte of decoded text."""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from sklearn.metrics import accuracy_score, matthews_corrcoef

from tests.builders import documents
from tests.tasks.kinds import VOCAB, config_of
from tlc_jax.config import EvaluationConfig, MlmConfig
from tlc_jax.core.errors import UserError
from tlc_jax.core.vocabulary import EOS, SPECIAL_TOKENS, roberta_roles
from tlc_jax.data.labelled.packed_examples import PackedExamples
from tlc_jax.data.token_bytes import token_bytes
from tlc_jax.data.tokenizer import ROBERTA, TRANSLATION, train_tokenizer
from tlc_jax.parallel.mesh import make_mesh
from tlc_jax.tasks.classification import Classification
from tlc_jax.tasks.kinds import kind_of
from tlc_jax.tasks.metric import ACCURACY, MATTHEWS, NATS_PER_BYTE, Metric
from tlc_jax.training.evaluator import Evaluator

QUIET = Console(quiet=True)


@pytest.mark.parametrize("metric", [ACCURACY, NATS_PER_BYTE])
def test_better_is_a_direction(metric: Metric) -> None:
    good, bad = (0.9, 0.1) if metric.higher_is_better else (0.1, 0.9)
    assert metric.better(good, bad)
    assert not metric.better(bad, good)
    assert not metric.better(good, good)
    assert metric.reached(good, bad)
    assert metric.reached(good, good)
    assert not metric.reached(bad, good)
    assert metric.best([bad, good, bad], key=lambda value: value) == good
    assert metric.best([("a", good), ("b", good)], key=lambda item: item[1]) == ("a", good)
    for share in (0.5, 0.95):
        assert metric.better(good, metric.share(good, share))
        assert metric.share(good, share) == pytest.approx(
            good * share if metric is ACCURACY else good / share
        )


def test_a_target_is_any_finite_number() -> None:
    for target in (-0.5, 0.0, 0.5, 3.0):
        assert EvaluationConfig(stop_at=target).stop_at == target
    for target in (math.nan, math.inf, -math.inf):
        with pytest.raises(ValueError, match="evaluation.stop_at must be finite"):
            EvaluationConfig(stop_at=target)


@pytest.mark.parametrize("metric", [ACCURACY, NATS_PER_BYTE])
def test_nan_is_the_worst(metric: Metric) -> None:
    assert metric.better(0.5, math.nan)
    assert not metric.better(math.nan, 0.5)
    assert not metric.better(math.nan, math.nan)
    assert not metric.reached(math.nan, 0.5)
    assert metric.best([math.nan, 0.5, math.nan], key=lambda value: value) == 0.5


@given(st.integers(2, 4), st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_metrics_of_a_confusion_matrix_are_scikit_learns(classes: int, seed: int, right: float) -> None:
    rng = np.random.default_rng(seed)
    labels, guesses = rng.integers(0, classes, (2, 60))
    predicted = np.where(rng.random(60) < right, labels, guesses)
    confusion = np.zeros((classes, classes + 1))
    np.add.at(confusion, (labels, predicted), 1)
    assert MATTHEWS.of_confusion(confusion) == pytest.approx(matthews_corrcoef(labels, predicted), abs=1e-12)
    assert ACCURACY.of_confusion(confusion) == pytest.approx(accuracy_score(labels, predicted))


def test_undecided_examples_are_wrong() -> None:
    confusion = np.array([[3.0, 0.0, 1.0], [0.0, 4.0, 0.0]])
    assert ACCURACY.of_confusion(confusion) == 7 / 8
    expected = matthews_corrcoef([0] * 4 + [1] * 4, [0, 0, 0, 2, 1, 1, 1, 1])
    assert MATTHEWS.of_confusion(confusion) == pytest.approx(expected)
    assert MATTHEWS.of_confusion(np.array([[4.0, 0.0, 0.0], [4.0, 0.0, 0.0]])) == 0


@pytest.fixture(scope="module")
def tokenizers() -> dict[str, tuple]:
    return {
        name: (train_tokenizer(documents(100), VOCAB, layout), layout)
        for name, layout in (("roberta", ROBERTA), ("translation", TRANSLATION))
    }


@pytest.mark.parametrize("name", ["roberta", "translation"])
@given(text=st.text(max_size=40))
def test_tokens_stand_for_the_bytes_of_their_text(name: str, tokenizers: dict[str, tuple], text: str) -> None:
    tokenizer, layout = tokenizers[name]
    sizes = token_bytes(tokenizer, roberta_roles(VOCAB) if layout is ROBERTA else layout)
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    assert sizes[ids].sum() == len(text.encode())
    specials = {token: sizes[tokenizer.token_to_id(token)] for token in layout.special}
    assert specials == {token: float(token == "</s>") for token in layout.special}


@pytest.mark.slow
def test_nats_per_byte_of_masked_text(tmp_path) -> None:
    """With every token predicted: the sum of nats over the bytes of the decoded rows and their ends."""
    config = dataclasses.replace(config_of("mlm", tmp_path), task=MlmConfig(mask_rate=1.0))
    data = kind_of(config).prepare(config, QUIET)
    task, rows = kind_of(config).task(config, data), data.rows("held_out").astype(int)
    params = jax.jit(task.init)(jax.random.key(0))
    results = Evaluator(task, 16, make_mesh(config.mesh, jax.devices()[:1]))(params, task.evaluation_sets())
    tokenizer = data.tokenizer()
    text = [tokenizer.decode([i for i in row if i >= len(SPECIAL_TOKENS)]) for row in rows.tolist()]
    size = sum(len(line.encode()) for line in text) + (rows == EOS).sum()
    tokens = (rows != 1).sum()
    expected = results["eval/held_out/loss"] * tokens / size
    assert results["eval/held_out/nats_per_byte"] == pytest.approx(expected, rel=1e-6)
    batch = task.train_batch(0, lambda size: slice(0, size))
    assert "bytes" not in task.loss(params, jax.tree.map(jnp.asarray, batch), jax.random.key(0))[1]


@pytest.mark.slow
def test_nats_per_byte_of_translations(tmp_path) -> None:
    config = config_of("translation", tmp_path)
    data = kind_of(config).prepare(config, QUIET)
    task = kind_of(config).task(config, data)
    assert not any(data.manifest["truncated"].values())
    params = jax.jit(task.init)(jax.random.key(0))
    results = Evaluator(task, config.batch_size, make_mesh(config.mesh, jax.devices()[:1]))(params, ["test"])
    lines = [target for _, target in data.texts("test")]
    size, tokens = sum(len(line.encode()) + 1 for line in lines), data.manifest["tokens"]["test"]["target"]
    expected = results["eval/test/loss"] * tokens / size
    assert results["eval/test/nats_per_byte"] == pytest.approx(expected, rel=1e-6)


@pytest.mark.slow
def test_a_data_set_names_the_metric_of_a_classification(tmp_path) -> None:
    """Matthews correlation of the predictions, of the model and of the baselines."""
    config = config_of("classification", tmp_path)
    packed = kind_of(config).prepare(config, QUIET)
    named = PackedExamples(packed.folder, {**packed.manifest, "metric": "matthews"})
    task, plain = Classification(config, named), Classification(config, packed)
    assert (task.primary_metric, plain.primary_metric) == (MATTHEWS, ACCURACY)
    params = jax.tree.map(lambda x: x + 0.1, jax.jit(task.init)(jax.random.key(1)))
    results, plain_results = (
        Evaluator(each, 16, make_mesh(config.mesh, jax.devices()[:1]))(params, ["test"])
        for each in (task, plain)
    )
    assert plain_results["eval/test/accuracy"] == results["eval/test/accuracy"]
    predicted, labels = [], []
    for batch in task.evaluation_batches("test", 16, lambda size: slice(0, size)):
        real = batch["weights"] > 0
        logits = np.asarray(task.logits(params, jax.tree.map(jnp.asarray, batch)))
        predicted += logits.argmax(axis=1)[real].tolist()
        labels += batch["targets"][real].tolist()
    assert results["eval/test/matthews"] == pytest.approx(matthews_corrcoef(labels, predicted), abs=1e-9)
    linear = task.baseline("linear", "test")
    assert linear is not None
    expected = matthews_corrcoef(task.targets("test"), linear)
    assert task.baselines()["test/linear_matthews"] == pytest.approx(expected, abs=1e-9)
    assert task.baselines()["test/majority_matthews"] == 0
    assert task.baselines().items() >= plain.baselines().items()
    unknown = PackedExamples(packed.folder, {**packed.manifest, "metric": "f1"})
    with pytest.raises(UserError, match="metric f1, and this version knows accuracy, matthews"):
        Classification(config, unknown)
