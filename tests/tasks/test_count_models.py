"""Count models beside models: over the same predictions, counted once, also for runs of earlier versions."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import jax
import pytest
from rich.console import Console

from tests.tasks.kinds import config_of
from tlc_jax.config import Config
from tlc_jax.data.text.two_sided_bigram import TwoSidedBigram
from tlc_jax.parallel.mesh import make_mesh
from tlc_jax.storage.sealed import MANIFEST
from tlc_jax.tasks.base import Task
from tlc_jax.tasks.kinds import kind_of
from tlc_jax.training.evaluator import Evaluator

QUIET = Console(quiet=True)
NAMES = {"mlm": "two_sided_bigram", "translation": "target_bigram"}


def task_of(config: Config) -> Task:
    return kind_of(config).task(config, kind_of(config).prepare(config, QUIET))


@pytest.mark.parametrize("kind", NAMES)
def test_over_the_predictions_that_models_are_evaluated_on(kind: str, tmp_path: Path) -> None:
    """Each set has both metrics, whose ratio is that of the model's: bytes for each prediction."""
    config = config_of(kind, tmp_path)
    config = dataclasses.replace(config, evaluation=dataclasses.replace(config.evaluation, max_rows=7))
    task = task_of(config)
    sets = (*task.evaluation_sets(), *task.reported_sets())
    evaluate = Evaluator(task, config.batch_size, make_mesh(config.mesh, jax.devices()[:1]))
    model = evaluate(jax.jit(task.init)(jax.random.key(0)), sets)
    assert task.baselines().keys() == {
        f"{name}/{NAMES[kind]}_{metric}" for name in sets for metric in ("perplexity", "nats_per_byte")
    }
    for name in sets:
        perplexity, per_byte = (
            task.baselines()[f"{name}/{NAMES[kind]}_{metric}"] for metric in ("perplexity", "nats_per_byte")
        )
        ratio = model[f"eval/{name}/nats_per_byte"] / model[f"eval/{name}/loss"]
        assert per_byte / math.log(perplexity) == pytest.approx(ratio, rel=1e-5)
        assert perplexity < model[f"eval/{name}/perplexity"], "an untrained model has learned nothing"


def test_masked_as_models_see_it(tmp_path: Path) -> None:
    """The same positions, whatever the size of a batch, and the rows of `evaluation.max_rows` alone."""
    config = config_of("mlm", tmp_path)
    found = []
    for rows, batch_size in ((7, 16), (7, 4), (None, 16)):
        evaluation = dataclasses.replace(config.evaluation, max_rows=rows)
        task = task_of(dataclasses.replace(config, evaluation=evaluation, batch_size=batch_size))
        data = task._text  # type: ignore[attr-defined]
        model = TwoSidedBigram(data.rows("train"), data.roles, config.task.mask_rate)  # type: ignore[union-attr]
        nats = count = 0.0
        for batch in task.evaluation_batches("held_out", 3, slice):
            nats, count = nats + model.nats(batch).sum(), count + batch["weights"].sum()
        found.append(task.baselines()["held_out/two_sided_bigram_perplexity"])
        assert found[-1] == pytest.approx(math.exp(nats / count), rel=1e-9)
    assert found[0] == pytest.approx(found[1], rel=1e-9)
    assert found[0] != found[2]


@pytest.mark.parametrize("kind", NAMES)
def test_counted_once(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read back from the cache, counted again where the file is damaged; prepared data keep their bytes."""
    config = config_of(kind, tmp_path)
    task = task_of(config)
    manifest = (task.prepared().folder / MANIFEST).read_bytes()  # type: ignore[attr-defined]
    first, counts = task.baselines(), []
    original = type(task).count_model  # type: ignore[attr-defined]
    monkeypatch.setattr(type(task), "count_model", lambda self: counts.append(1) or original(self))
    assert task_of(config).baselines() == first
    assert not counts
    [kept] = (tmp_path / "cache" / "baselines").iterdir()
    assert json.loads(kept.read_text()) == first
    kept.write_text('{"held_out/two_sided_bigram_perplexity": "low"}')
    assert task_of(config).baselines() == first
    assert len(counts) == 1
    assert json.loads(kept.read_text()) == first
    assert (task.prepared().folder / MANIFEST).read_bytes() == manifest  # type: ignore[attr-defined]


def test_data_that_are_only_evaluated_on_have_none(tmp_path: Path) -> None:
    """Without training pairs there is nothing to count."""
    config = config_of("translation", tmp_path)
    kind = kind_of(config)
    tokenizer = kind.prepare(config, QUIET).folder / "tokenizer.json"
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, tokenizer=str(tokenizer)))
    assert kind.task(config, kind.prepare(config, QUIET, ())).baselines() == {}
    assert kind.task(config, kind.prepare(config, QUIET)).baselines()
