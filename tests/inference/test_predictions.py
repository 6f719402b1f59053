"""Predictions of tables with labels and without, by a classifier that was never trained: `evaluate` from its
arguments to its file."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.builders import documents, write_tables
from tlc_jax import evaluate
from tlc_jax.config import BudgetConfig, ClassificationConfig, Config, DataConfig, ModelConfig
from tlc_jax.core.entry_point import explained
from tlc_jax.core.errors import UserError
from tlc_jax.data.tokenizer import load_tokenizer, train_tokenizer
from tlc_jax.inference import evaluation
from tlc_jax.inference.predictions import Predictions
from tlc_jax.models.classifier import apply_classifier, init_classifier
from tlc_jax.runs.load import TrainedModel
from tlc_jax.storage.run_directory import RunDir

MODEL = ModelConfig(num_layers=1, hidden_size=16, head_size=8, vocab_size=300, max_positions=32)
LABELS = ("same", "other")  # not in the order of the alphabet, as GLUE's are not


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    root = tmp_path_factory.mktemp("model")
    train_tokenizer(documents(100), 300).save(str(root / "tokenizer.json"))
    data = DataConfig(
        name="glue/sst2", sequence_length=32, held_out=0.1, cache_dir=str(root / "cache"), dir="elsewhere"
    )
    task = ClassificationConfig()
    config = Config(model=MODEL, task=task, data=data, batch_size=16, budget=BudgetConfig(steps=10))
    params = jax.jit(lambda key: init_classifier(MODEL, 2, key))(jax.random.key(3))
    return TrainedModel(RunDir(root), config, params, 7, LABELS, {})


@pytest.fixture(autouse=True)
def of_this_model(model: TrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "load_model", lambda root, warn, packed: model)


def evaluated(capsys: pytest.CaptureFixture[str], where: Path, *more: str) -> dict[str, float]:
    evaluate.main(["--checkpoint", "run", "--json", "--data.dir", str(where), *more])
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def predicted(capsys: pytest.CaptureFixture[str], where: Path, out: Path) -> list[dict]:
    evaluated(capsys, where, "--predictions", str(out))
    return [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]


def table(path: Path, rows: list[tuple[str, ...]], *columns: str) -> Path:
    path.write_text("".join("\t".join(row) + "\n" for row in [columns, *rows]), encoding="utf-8")
    return path


TEXTS = ["the model keeps the weight", "a layer loses every row", "Grüße, 世界", "prune and train"]


@pytest.mark.slow
@pytest.mark.parametrize("label", [None, "-1", ""])
def test_texts_without_labels(
    label: str | None, model: TrainedModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In their order, and as the model says of each alone."""
    rows = [(text,) if label is None else (text, label) for text in TEXTS]
    blind = table(tmp_path / "blind.tsv", rows, *("text", "label")[: len(rows[0])])
    lines = predicted(capsys, blind, tmp_path / "out" / "p.jsonl")
    assert [line["example"] for line in lines] == [0, 1, 2, 3]
    assert {(line["set"], line["label"], line["linear"]) for line in lines} == {("blind", None, None)}
    tokenizer = load_tokenizer(model.rundir.tokenizer, 300)
    for text, line in zip(TEXTS, lines, strict=True):
        ids = jnp.asarray([tokenizer.encode(text).ids])
        logits = np.asarray(apply_classifier(MODEL, model.params, ids, classes=2)[0], np.float64)
        chances = np.exp(logits) / np.exp(logits).sum()
        np.testing.assert_allclose(list(line["probabilities"].values()), chances, atol=1e-4)
        assert line["predicted"] == LABELS[int(logits.argmax())]
        assert tuple(line["probabilities"]) == LABELS


def test_texts_without_labels_are_not_evaluated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blind = table(tmp_path / "blind.tsv", [(text,) for text in TEXTS], "text")
    with pytest.raises(UserError, match="blind has no labels to evaluate on: give --predictions"):
        evaluated(capsys, blind)


@pytest.mark.slow
def test_tables_with_labels_and_without(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No table to train on, one label of two, and a table that is no part of the task."""
    table(tmp_path / "blind.tsv", [(text,) for text in TEXTS], "text")
    table(tmp_path / "seen.tsv", [(text, "other") for text in TEXTS], "text", "label")
    found = evaluated(capsys, tmp_path, "--predictions", str(tmp_path / "out" / "p.jsonl"))
    assert set(found) == {"eval/seen/accuracy", "eval/seen/loss", "checkpoint", "step"}
    lines = [json.loads(line) for line in (tmp_path / "out" / "p.jsonl").read_text().splitlines()]
    assert [line["set"] for line in lines] == ["seen"] * 4 + ["blind"] * 4
    right = np.mean([line["predicted"] == line["label"] for line in lines[:4]])
    assert right == found["eval/seen/accuracy"]
    assert [line["predicted"] for line in lines[:4]] == [line["predicted"] for line in lines[4:]]


@pytest.mark.slow
def test_a_folder_to_train_on_is_as_it_was_for_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tables = write_tables(tmp_path / "tables", 120)
    lines = predicted(capsys, tables, tmp_path / "p.jsonl")
    assert {line["set"] for line in lines} == {"tuning", "test"}
    found = evaluated(capsys, tables)
    own = [line for line in lines if line["set"] == "test"]
    for kind, metric in (("predicted", "accuracy"), ("linear", "linear_accuracy")):
        right = np.mean([line[kind] == line["label"] for line in own])
        assert right == pytest.approx(found[f"eval/test/{metric}"])
    alone = evaluated(capsys, tables / "test.jsonl")
    assert alone["eval/test/accuracy"] == found["eval/test/accuracy"]
    assert "eval/test/linear_accuracy" not in alone


def test_where_predictions_cannot_go(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    blind = table(folder / "blind.tsv", [(text,) for text in TEXTS], "text")
    before = blind.read_bytes()
    for out, says in (
        (folder, "is a folder"),
        (blind, "would be one of the tables"),
        (folder / "p.jsonl", "would be one of the tables"),
        (blind / "x", "cannot be made"),
    ):
        with pytest.raises(UserError, match=says):
            evaluated(capsys, folder, "--predictions", str(out))
    assert blind.read_bytes() == before
    assert [path.name for path in folder.iterdir()] == ["blind.tsv"]


def test_a_full_disk_leaves_no_part_of_the_predictions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    blind = table(tmp_path / "blind.tsv", [(text,) for text in TEXTS], "text")
    write = Path.write_text

    def full(path: Path, text: str, **options: str) -> int:
        write(path, text[:10], **options)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space left") as caught:
        evaluated(capsys, blind, "--predictions", str(tmp_path / "out" / "p.jsonl"))
    assert str(tmp_path / "out" / "p.jsonl") in str(explained(caught.value))
    assert not list((tmp_path / "out").iterdir())


def test_predictions_go_into_a_pipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blind = table(tmp_path / "blind.tsv", [(text,) for text in TEXTS], "text")
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    evaluated(capsys, blind, "--predictions", str(tmp_path / "pipe"))
    assert len(os.read(reader, 1 << 16).splitlines()) == 4
    os.close(reader)
    assert (tmp_path / "pipe").is_fifo()


def test_what_is_not_decided_is_no_prediction() -> None:
    found = Predictions(np.array([[0.5, 0.5], [0.4, 0.6], [np.nan, np.nan]]), np.array([0, 1, 0]))
    assert found.decided.tolist() == [False, True, False]
    assert found.correct.tolist() == [False, True, False]


@pytest.mark.slow
def test_a_tie_is_written_as_none(
    model: TrainedModel, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    equal = jax.tree.map(lambda x: x * 0, model.params)
    broken = jax.tree.map(lambda x: x * np.nan, model.params)
    seen = table(tmp_path / "seen.tsv", [(text, "same") for text in TEXTS], "text", "label")
    for params, chance in ((equal, 0.5), (broken, None)):
        other = TrainedModel(model.rundir, model.config, params, 7, LABELS, {})
        monkeypatch.setattr(evaluation, "load_model", lambda root, warn, packed, other=other: other)
        lines = predicted(capsys, seen, tmp_path / "p.jsonl")
        assert {line["predicted"] for line in lines} == {None}
        assert {p for line in lines for p in line["probabilities"].values()} == {chance}
    monkeypatch.setattr(evaluation, "load_model", lambda root, warn, packed: TrainedModel(
        model.rundir, model.config, equal, 7, LABELS, {}))  # fmt: skip
    assert evaluated(capsys, seen)["eval/seen/accuracy"] == 0
