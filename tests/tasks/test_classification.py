"""The classifier: its head against numpy, its first values, and every example counted once."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from tests.builders import documents, write_tables
from tlc_jax.config import BudgetConfig, ClassificationConfig, Config, DataConfig, MeshConfig, ModelConfig
from tlc_jax.core import tree
from tlc_jax.data.labelled.example_packing import prepare_examples
from tlc_jax.data.tokenizer import train_tokenizer
from tlc_jax.models.classifier import apply_classifier, init_classifier
from tlc_jax.models.encoder import Encoder
from tlc_jax.parallel.mesh import make_mesh
from tlc_jax.runs.memory import fitted
from tlc_jax.tasks.classification import Classification
from tlc_jax.training.evaluator import Evaluator

MODEL = ModelConfig(num_layers=2, hidden_size=32, head_size=8, vocab_size=300, max_positions=32)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    root = tmp_path_factory.mktemp("classification")
    train_tokenizer(documents(100), 300).save(str(root / "tokenizer.json"))
    data = DataConfig(
        dir=str(write_tables(root / "tables")),
        tokenizer=str(root / "tokenizer.json"),
        sequence_length=32,
        held_out=0.1,
        cache_dir=str(root / "cache"),
    )
    task = ClassificationConfig()
    return Config(model=MODEL, task=task, data=data, batch_size=16, budget=BudgetConfig(steps=10))


def make(config: Config) -> Classification:
    assert isinstance(config.task, ClassificationConfig)
    quiet, limit = Console(quiet=True), config.task.max_examples
    return Classification(config, prepare_examples(config.data, 300, quiet, limit))


@pytest.mark.slow
def test_the_head_is_fairseqs() -> None:
    params = jax.jit(lambda key: init_classifier(MODEL, 3, key))(jax.random.key(0))
    tokens = jax.random.randint(jax.random.key(1), (5, 9), 4, 300).at[:, 0].set(0)
    found = jax.jit(lambda p: apply_classifier(MODEL, p, tokens, classes=3))(params)
    hidden = jax.jit(lambda p: Encoder(MODEL).apply({"params": p}, tokens, train=False))(params["encoder"])
    head = jax.tree.map(lambda x: np.asarray(x, np.float64), params["classification_head"])
    first = np.asarray(hidden, np.float64)[:, 0]  # the state of <s>
    inner = np.tanh(first @ head["dense"]["kernel"] + head["dense"]["bias"])
    expected = inner @ head["output"]["kernel"] + head["output"]["bias"]
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.slow
def test_first_values_are_torchs() -> None:
    """torch.nn.Linear: U(-1/sqrt(in), 1/sqrt(in)), the bias too."""
    config = dataclasses.replace(MODEL, hidden_size=64)
    head = init_classifier(config, 50, jax.random.key(0))["classification_head"]
    for path, value in tree.flatten(head).items():
        x = np.asarray(value)
        assert np.abs(x).max() <= 0.125, path
        assert np.abs(x).max() > 0.11, path
        assert abs(x.std() - 0.125 / np.sqrt(3)) < 0.015, path


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [8, 24])
def test_every_example_is_counted_once(config: Config, batch_size: int) -> None:
    """51 examples in batches that do not divide them, against one by one without padding."""
    task = make(config)
    params = jax.jit(task.init)(jax.random.key(3))
    found = Evaluator(task, batch_size, make_mesh(MeshConfig()))(params, ["test"])
    packed = prepare_examples(config.data, 300, Console(quiet=True)).split("test")
    apply = jax.jit(lambda tokens: apply_classifier(MODEL, params, tokens, classes=2))
    correct, loss = 0, 0.0
    for i, label in enumerate(packed.labels):
        ids = np.asarray(packed.ids[packed.offsets[i] : packed.offsets[i + 1]], np.int32)
        logits = np.asarray(apply(jnp.asarray(ids)[None])[0], np.float64)
        correct += int(logits.argmax() == label)
        loss += np.log(np.exp(logits).sum()) - logits[label]
    assert found["eval/test/accuracy"] == correct / 51
    assert found["eval/test/loss"] == pytest.approx(loss / 51, rel=1e-4)


@pytest.mark.slow
def test_auto_knows_the_memory_of_a_classifier(config: Config) -> None:
    auto = dataclasses.replace(config, micro_batch="auto", memory_gib=4.0)
    assert fitted(auto, make(auto), make_mesh(MeshConfig()), Console(quiet=True)).micro_batch == 16


def test_fewer_examples_are_a_part_of_more(config: Config) -> None:
    def labels(limit: int | None) -> tuple[list[int], int]:
        settings = ClassificationConfig(max_examples=limit)
        task = make(dataclasses.replace(config, task=settings))
        return [int(x) for x in task._train.labels], task._batches_per_epoch

    few, everything, many = labels(40), labels(None), labels(10**6)
    assert many == everything
    assert few[0] == everything[0][:40]
    assert few[1] == 3
    assert everything[1] == -(-len(everything[0]) // 16)


def test_training_reads_no_reported_set(config: Config) -> None:
    task = make(config)
    assert task.evaluation_sets() == ("tuning",)
    assert task.reported_sets() == ("test",)
