"""What every kind of task promises, for all kinds in the list: a new one is tested by being listed, and by a
small config in tests/tasks/kinds.py."""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import io
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from rich.console import Console

from tests.tasks.kinds import CONFIGS, config_of
from tlc_jax.config import CheckpointConfig, Config
from tlc_jax.core.errors import UserError
from tlc_jax.core.tree import flatten
from tlc_jax.data import cache
from tlc_jax.data.cache import Prepared
from tlc_jax.data.tokenizer import load_tokenizer
from tlc_jax.runs.facts import Document, facts, next_commands, result
from tlc_jax.storage.run_directory import RunDir
from tlc_jax.tasks.base import Task, TaskKind
from tlc_jax.tasks.kinds import KINDS, kind_of
from tlc_jax.tasks.metric import ExampleScores
from tlc_jax.training.view import show_facts

QUIET = Console(quiet=True)


def whole(size: int) -> slice:
    return slice(0, size)


@dataclasses.dataclass(frozen=True)
class Case:
    kind: TaskKind[Any]
    config: Config
    data: Prepared
    task: Task

    @functools.cached_property
    def params(self) -> dict[str, Any]:
        """Parameters with which no two logits are nearly equal."""
        start = jax.jit(self.task.init)(jax.random.key(0))
        rng = np.random.default_rng(0)
        return jax.tree.map(lambda x: x + jnp.asarray(0.3 * rng.normal(size=x.shape), x.dtype), start)

    @functools.cached_property
    def _logits(self) -> Any:
        return jax.jit(self.task.logits)

    @functools.cached_property
    def _sums(self) -> Any:
        return jax.jit(self.task.evaluation_sums)

    def logits(self, batch: dict[str, np.ndarray]) -> np.ndarray:
        return np.asarray(self._logits(self.params, batch))

    def sums(self, params: Any, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {name: np.asarray(x, np.float64) for name, x in self._sums(params, batch).items()}

    def primary(self, params: Any, batch: dict[str, np.ndarray]) -> float:
        return self.task.metrics(self.sums(params, batch))[self.task.primary_metric.name]

    def scores(self, batch: dict[str, np.ndarray]) -> ExampleScores:
        return self.task.example_scores(self.params, jax.tree.map(jnp.asarray, batch))

    def sets(self) -> tuple[str, ...]:
        return (*self.task.evaluation_sets(), *self.task.reported_sets())

    def batches(self, name: str) -> Iterator[dict[str, np.ndarray]]:
        return self.task.evaluation_batches(name, self.config.batch_size, whole)

    def first_batch(self) -> dict[str, np.ndarray]:
        return next(self.batches(self.task.evaluation_sets()[0]))


@pytest.fixture(scope="module", params=[kind.name for kind in KINDS])
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    config = config_of(request.param, tmp_path_factory.mktemp(request.param))
    kind = next(kind for kind in KINDS if kind.name == request.param)
    data = kind.prepare(config, QUIET)
    return Case(kind, config, data, kind.task(config, data))


def brute_force(logits: np.ndarray, batch: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """(nats, whether right) of each prediction, in float64."""
    wide, targets = logits.astype(np.float64), batch["targets"][..., None]
    shifted = wide - wide.max(axis=-1, keepdims=True)
    log_probabilities = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    picked = np.take_along_axis(log_probabilities, targets, axis=-1)[..., 0]
    return -picked, wide.argmax(axis=-1) == batch["targets"]


def test_each_kind_is_listed_with_a_config() -> None:
    names, types = [kind.name for kind in KINDS], [kind.config_type for kind in KINDS]
    assert sorted(names) == sorted(CONFIGS), "tests/tasks/kinds.py has a config of every kind"
    assert len({*names}) == len({*types}) == len(KINDS)


def test_a_config_finds_its_kind_and_its_data(case: Case) -> None:
    kind, config = case.kind, case.config
    assert kind_of(config) is kind
    assert kind.name in kind.task_names(config)
    source = kind.source(config)
    assert source.description
    assert all(path.exists() for path in source.files.values())
    again = kind.data_type.open(case.data.folder)
    assert again.manifest == case.data.manifest == kind.prepare(config, QUIET).manifest
    names = kind.label_names(config, case.data.folder)
    assert names == case.task.label_names == kind.label_names(config, None)
    load_tokenizer(case.data.folder / "tokenizer.json", config.model.vocab_size, kind.tokenizer_layout)
    assert len(case.task.facts()) <= 3


def test_copied_data_have_the_identity_of_the_original_and_changed_ones_another(
    case: Case, tmp_path: Path
) -> None:
    """As a resumed run compares them: nothing is prepared for it."""

    def identity() -> str:
        config = dataclasses.replace(case.config, data=data)
        return cache.identity_if_prepared(lambda: case.kind.prepare(config, QUIET))

    copy = Path(shutil.copytree(str(case.config.data.dir), tmp_path / "copy"))
    data = dataclasses.replace(case.config.data, dir=str(copy), cache_dir=str(tmp_path / "cache"))
    assert identity() == case.data.manifest["identity"]
    largest = max((path for path in copy.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    lines = largest.read_bytes().splitlines(keepends=True)
    largest.write_bytes(b"".join(lines[:-1]))
    assert identity() != case.data.manifest["identity"]
    assert not (tmp_path / "cache").exists()


def test_the_first_screen_has_few_lines(case: Case) -> None:
    """On a terminal of 80 columns, with every line that may be there; one more says what was compiled."""
    model = dataclasses.replace(case.config.model, num_layers=2)
    options = dataclasses.replace(case.config, model=model, log_every=7)
    console = Console(file=io.StringIO(), force_terminal=True, width=80, record=True)
    more = Document("quickstart", case.config).facts(options)
    show_facts(console, facts(case.config, RunDir(Path("runs/mine")), case.task, more))
    lines = console.export_text().splitlines()
    assert len(lines) <= 14
    assert "config     quickstart" in lines
    assert "changed    model.num_layers 2 (was 1), log_every 7 (was 20)" in lines
    count = f"1 layer of width 16, {sum(x.size for x in flatten(case.params).values()):,} parameters"
    assert any(line.startswith(f"model      {count}, on ") for line in lines)
    steps = case.config.budget.steps
    assert steps
    assert f"budget     {steps} updates ({case.task.epochs(steps):.2g} epochs)" in lines


def test_a_result_stands_beside_what_counts_reach(case: Case) -> None:
    """The primary metric first, and no set on which nothing may be chosen."""
    name, primary = case.task.evaluation_sets()[0], case.task.primary_metric.name
    metrics = dict.fromkeys((primary, "loss", "accuracy", "perplexity"), 0.5)
    line = {"step": 3, **{f"eval/{name}/{metric}": value for metric, value in metrics.items()}}
    text = result(case.task, line)
    assert text.startswith(f"{name}: {primary} 0.5")
    assert "loss" not in text
    for key, value in case.task.baselines().items():
        split, _, model = key.partition("/")
        assert (f" {value:.4g}" in text) == (split == name and "_" in model and "tokens" not in model), key


def test_what_may_be_done_next_are_commands_of_the_run(case: Case) -> None:
    for command in next_commands(case.config, "runs/my run"):
        found = re.fullmatch(r"python -m tlc_jax\.(\w+) (.*)", command)
        assert found is not None
        assert importlib.util.find_spec(f"tlc_jax.{found[1]}")
        assert "'runs/my run'" in found[2]
    keeps = dataclasses.replace(case.config, checkpoint=CheckpointConfig(best=True))
    for command in next_commands(keeps, "runs/my run"):
        assert "'runs/my run@best'" in command, "what is kept is what goes on"
        assert "best-" not in command


@pytest.mark.parametrize(
    ("case", "count", "says"),
    [
        ("mlm", {"documents": {"held_out": 3}}, "only 3 documents are held out to evaluate on"),
        ("mlm", {"documents": {"held_out": 1}}, "only 1 document is held out to evaluate on"),
        ("mlm", {"documents": {"held_out": 20}}, ""),
        ("classification", {"examples": {"tuning": 99}}, "only 99 examples are kept to tune on"),
        ("classification", {"examples": {"tuning": 100}}, ""),
    ],
    indirect=["case"],
)
def test_too_few_held_out_are_said_so(case: Case, count: dict[str, dict], says: str) -> None:
    """With what to change."""
    changed = {key: {**case.data.manifest[key], **sizes} for key, sizes in count.items()}
    data = dataclasses.replace(case.data, manifest={**case.data.manifest, **changed})
    notes = case.kind.task(case.config, data).notes()
    expected = f"{says}, too few to judge a model by: raise --data.held-out (now 0.2) or give more data"
    assert [note for note in notes if "too few" in note] == ([expected] if says else [])


def test_data_of_another_model_are_refused(case: Case) -> None:
    model = dataclasses.replace(case.config.model, vocab_size=case.config.model.vocab_size + 8)
    with pytest.raises(UserError, match="was prepared with vocab_size .* put the run's own data there"):
        case.kind.task(dataclasses.replace(case.config, model=model), case.data)


def test_batches_are_pure_in_seed_and_step(case: Case) -> None:
    other = case.kind.task(case.config, case.data)
    batches = {step: other.train_batch(step, whole) for step in (5, 0, 2)}
    for step in (0, 2, 5):
        again = case.task.train_batch(step, whole)
        assert again.keys() == batches[step].keys()
        for name, x in again.items():
            np.testing.assert_array_equal(x, batches[step][name], err_msg=name)
    reseeded = case.kind.task(dataclasses.replace(case.config, seed=1), case.data)
    assert any(differ(reseeded.train_batch(step, whole), batches[step]) for step in batches)


def differ(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> bool:
    return any(x.shape != second[name].shape or (x != second[name]).any() for name, x in first.items())


def test_slices_of_rows_are_the_rows_of_the_batch(case: Case) -> None:
    """As several processes build them, in training and in evaluation."""

    def batches(rows: Any) -> list[dict[str, np.ndarray]]:
        evaluation = case.task.evaluation_batches(case.sets()[0], case.config.batch_size, rows)
        return [case.task.train_batch(3, rows), next(evaluation), *case.task.sample_batches(rows)]

    parts = zip(
        batches(whole),
        batches(lambda size: slice(0, size // 4)),
        batches(lambda size: slice(size // 4, size)),
        strict=True,
    )
    for batch, first, second in parts:
        for name, x in batch.items():
            np.testing.assert_array_equal(x, np.concatenate([first[name], second[name]]), err_msg=name)


def test_samples_have_the_shapes_of_all_batches(case: Case) -> None:
    def shape(batch: dict[str, Any]) -> tuple[Any, ...]:
        return tuple((name, batch[name].shape, str(batch[name].dtype)) for name in sorted(batch))

    samples = {shape(batch) for batch in case.task.sample_batches(whole)}
    assert {shape(case.task.train_batch(step, whole)) for step in range(12)} <= samples
    for name, largest in case.task.largest_batch().items():
        size, dtype = max(sample_size(sample, name) for sample in samples)
        assert dtype == str(largest.dtype)
        if name in ("source", "source_segments"):  # how long they are beside targets, only the data say
            assert 0.8 * largest.size <= size <= largest.size
        else:
            assert size == largest.size, name


def sample_size(sample: tuple[Any, ...], name: str) -> tuple[int, str]:
    (shape, dtype), *_ = [(shape, dtype) for own, shape, dtype in sample if own == name]
    return int(np.prod(shape)), dtype


@pytest.mark.slow
def test_losses_are_sums_as_by_brute_force(case: Case) -> None:
    batch = case.first_batch()
    losses, right = brute_force(case.logits(batch), batch)
    loss, sums = jax.jit(lambda params, batch: case.task.loss(params, batch, None))(case.params, batch)
    weights = batch["weights"].astype(np.float64)
    np.testing.assert_allclose(float(loss), (weights * losses).sum(), rtol=1e-5)
    assert float(sums["loss"]) == float(loss)
    assert float(sums["weight"]) == weights.sum() > 0
    assert float(sums["correct"]) == (weights * right).sum()


@pytest.mark.slow
def test_metrics_of_a_set_are_as_by_brute_force(case: Case) -> None:
    """Sums over unequal batches, divided once; pads have no say."""
    name = case.sets()[-1]
    total: dict[str, Any] = {}
    losses = right = weight = 0.0
    for batch in case.batches(name):
        total = {key: total.get(key, 0.0) + value for key, value in case.sums(case.params, batch).items()}
        nats, is_right = brute_force(case.logits(batch), batch)
        weights = batch["weights"].astype(np.float64)
        losses, weight = losses + (nats * weights).sum(), weight + weights.sum()
        right += (is_right * weights).sum()
    metrics = case.task.metrics(total)
    np.testing.assert_allclose(metrics["loss"], losses / weight, rtol=1e-5)
    np.testing.assert_allclose(metrics["accuracy"], right / weight, rtol=1e-9)
    assert np.isfinite(metrics[case.task.primary_metric.name])


@pytest.mark.slow
def test_scores_of_examples_add_up_to_the_primary_metric(case: Case) -> None:
    """Of a batch, and of each of its examples alone."""
    batch = case.first_batch()
    scores = case.scores(batch)
    np.testing.assert_allclose(scores.mean, case.primary(case.params, batch), rtol=1e-5)
    assert scores.scores.shape == scores.weights.shape == (len(batch["weights"]),)
    for row in (0, 3):
        alone = {name: np.where(mask(x, row), x, 0) if name == "weights" else x for name, x in batch.items()}
        value = float(scores.scores[row] / scores.weights[row])
        np.testing.assert_allclose(value, case.primary(case.params, alone), rtol=1e-5)


def mask(x: np.ndarray, row: int) -> np.ndarray:
    return (np.arange(len(x)) == row).reshape(-1, *[1] * (x.ndim - 1))


@pytest.mark.slow
def test_training_makes_the_primary_metric_better(case: Case) -> None:
    """On the batch that is trained on: the metric has the direction that it says."""
    batch, metric = case.first_batch(), case.task.primary_metric
    arrays = jax.tree.map(jnp.asarray, batch)
    optimizer, params = optax.adam(0.02), case.params

    @jax.jit
    def update(params: Any, state: Any) -> tuple[Any, Any]:
        gradient = jax.grad(lambda params: case.task.loss(params, arrays, None)[0])(params)
        change, state = optimizer.update(gradient, state)
        return optax.apply_updates(params, change), state

    state = optimizer.init(params)
    for _ in range(25):
        params, state = update(params, state)
    before, after = case.primary(case.params, batch), case.primary(params, batch)
    assert metric.better(after, before)
    assert metric.reached(after, before)
    assert not metric.reached(before, after)


@pytest.mark.slow
def test_the_objective_needs_no_data(case: Case) -> None:
    """Its parameters, losses and shapes are those of the task, bit for bit."""
    objective = case.kind.objective(case.config, len(case.task.label_names))
    key, batch = jax.random.key(7), case.first_batch()
    ours, theirs = flatten(jax.jit(objective.init)(key)), flatten(jax.jit(case.task.init)(key))
    assert ours.keys() == theirs.keys()
    for path, x in ours.items():
        np.testing.assert_array_equal(x, theirs[path], err_msg=path)
    np.testing.assert_array_equal(jax.jit(objective.logits)(case.params, batch), case.logits(batch))
    assert objective.family is case.task.family
    assert objective.largest_batch() == case.task.largest_batch()
    flops = objective.update_flops(objective.largest_batch())
    assert flops == case.task.update_flops(case.task.largest_batch()) > 0


def test_evaluation_covers_each_example_once(case: Case) -> None:
    for name in case.sets():
        size = case.task.evaluation_size(name)
        assert size > 0
        indices = list(case.task.evaluation_examples(name, case.config.batch_size))
        seen = np.concatenate(indices)
        np.testing.assert_array_equal(np.sort(seen[seen >= 0]), np.arange(size))
        for rows, batch in zip(indices, case.batches(name), strict=True):
            weights = batch["weights"].reshape(len(rows), -1)
            assert not weights[rows < 0].any(), "a pad has weight 0"
            assert weights[rows >= 0].sum(axis=1).mean() > 0


def test_epochs_and_tokens(case: Case) -> None:
    task = case.task
    assert task.epochs(0) == 0
    np.testing.assert_allclose([task.epochs(n) for n in range(5)], task.epochs(1) * np.arange(5))
    assert 0 < task.epochs(1) < 1, "the config is smaller than its data"
    assert task.tokens_per_step > 0
    most = max(x.size for x in task.largest_batch().values())
    assert task.tokens_per_step <= most


def test_operations_are_counted_in_both_ways_or_not_at_all(case: Case) -> None:
    counts = case.task.operations()
    if counts:
        assert counts.keys() == {"flops", "electra_flops"}
        assert counts["flops"] == case.task.update_flops(case.task.largest_batch())
        assert counts["electra_flops"] > 0
    assert bool(counts) == (case.task.primary_metric.name == "nats_per_byte")


def test_what_is_computed_at_once_is_bounded(case: Case) -> None:
    kind, config = case.kind, case.config
    assert kind.bounded(config, 10) is config
    huge = dataclasses.replace(config, batch_size=kind.most_at_once * 2**10)
    bounded = kind.bounded(huge, 10**9)
    assert bounded.at_once <= max(kind.most_at_once, config.batch_size) * 2
    assert bounded.rows_at_once % jax.device_count() == 0
    assert kind.bounded(huge, 3).at_once < bounded.at_once


def test_the_other_rows_have_no_effect(case: Case) -> None:
    batch = case.first_batch()
    alone = {name: np.where(mask(x, 1), x, np.roll(x, 3, axis=0)) for name, x in batch.items()}
    ours, theirs = (case.scores(each).scores[1] for each in (batch, alone))
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
