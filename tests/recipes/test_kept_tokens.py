"""A run whose vocabulary is trimmed: its data, its artifact, and what is refused."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from tests.builders import documents
from tlc_jax import compress, evaluate, inspect
from tlc_jax.artifacts.artifact import read_artifact
from tlc_jax.compression.methods import TrimVocabulary
from tlc_jax.config.compression import CompressConfig
from tlc_jax.core.errors import UserError
from tlc_jax.data.token_bytes import token_bytes
from tlc_jax.recipes.compressed_model import compress_model
from tlc_jax.recipes.kept_tokens import trimmed_vocabulary, unseen
from tlc_jax.recipes.tuning_evaluator import evaluator_of, task_of
from tlc_jax.runs.load import TrainedModel, load_model
from tlc_jax.studies.compress_item import CompressedMeasurer
from tlc_jax.tasks.mlm import MaskedLanguageModelling

QUIET = Console(quiet=True)


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "lines.txt"
    path.write_text("\n".join([documents(1)[0].split("\n")[1], "", "Small models."]), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def model(finished: Path) -> TrainedModel:
    return load_model(str(finished), warn=pytest.fail)


def test_training_data_decide_unless_a_text_is_named(model: TrainedModel, text: Path) -> None:
    of_data = trimmed_vocabulary(model, None, QUIET)
    stored = np.fromfile(model.rundir.data / "train.bin", np.uint16)
    assert set(stored) <= set(of_data.kept), "counted here from the file"
    assert unseen(model, of_data, "train") == (0, stored.size)
    of_text = trimmed_vocabulary(model, str(text), QUIET)
    assert set(of_text.kept) < set(of_data.kept)
    gone, total = unseen(model, of_text, "held_out")
    held_out = np.fromfile(model.rundir.data / "held_out.bin", np.uint16)
    assert (gone, total) == (int((~np.isin(held_out, of_text.kept)).sum()), held_out.size)
    assert gone > 0


def test_the_data_of_a_run_follow_its_vocabulary(model: TrainedModel, text: Path) -> None:
    result = compress_model(model, (TrimVocabulary(),), QUIET, str(text))
    vocabulary = result.model.vocabulary
    assert vocabulary is not None
    before, after = task_of(model), task_of(result.model)
    assert isinstance(before, MaskedLanguageModelling)
    assert isinstance(after, MaskedLanguageModelling)
    packed = after.prepared()
    rows = np.fromfile(model.rundir.data / "held_out.bin", np.uint16).reshape(-1, 32)
    expected = np.where(np.isin(rows, vocabulary.kept), np.searchsorted(vocabulary.kept, rows), 3)
    np.testing.assert_array_equal(packed.rows("held_out"), expected)
    assert packed.roles.mask == result.model.config.model.vocab_size - 1
    np.testing.assert_array_equal(packed.token_bytes(), token_bytes(packed.tokenizer(), packed.roles))
    assert before.prepared().manifest["identity"] != packed.manifest["identity"]
    with pytest.raises(UserError, match="is trimmed already"):
        compress_model(result.model, (TrimVocabulary(),), QUIET)


@pytest.mark.slow
def test_a_study_measures_what_is_trimmed(model: TrainedModel, text: Path) -> None:
    """With its own tokens, not with ids of the whole vocabulary."""
    config = CompressConfig(bits=32, steps=(TrimVocabulary(),), calibration_text=str(text))
    rows, _ = CompressedMeasurer(model, QUIET)(config)
    result = compress_model(model, (TrimVocabulary(),), QUIET, str(text))
    expected = evaluator_of(result.model)(result.compressed.dense())["eval/held_out/loss"]
    [value] = (row["value"] for row in rows if row.get("metric") == "loss" and "role" in row)
    assert value == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
def test_an_artifact_is_whole(
    finished: Path, corpus: Path, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    options = ["--config", "trim_vocabulary", "--calibration-text", str(text), "--out", str(out)]
    compress.main([str(finished), *options])
    said = " ".join(capsys.readouterr().out.split())
    assert "of which" in said
    assert "count as unknown here; the artifact's tokenizer makes smaller ones of their text" in said
    manifest = read_artifact(out).manifest
    kept, before = (manifest["vocabulary"][key] for key in ("kept", "before"))
    assert manifest["tensors"]["encoder/token_embedding"]["shape"] == [kept, 32]
    assert kept < before == 300
    inspect.main([str(out)])
    assert f"vocabulary trimmed to {kept} of 300 tokens" in " ".join(capsys.readouterr().out.split())
    evaluate.main(["--checkpoint", str(out), "--data.dir", str(corpus), "--json"])
    found = json.loads(capsys.readouterr().out)
    assert 0 < found["eval/held_out/nats_per_byte"] < 3, "of the texts as the trimmed tokenizer reads them"


def test_what_has_no_tokens_is_refused(finished: Path, tmp_path: Path, text: Path) -> None:
    for content, says in (("\n \n", "has no text"), (None, "cannot be read|No such file")):
        path = tmp_path / "lines.txt"
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_text(content, encoding="utf-8")
        with pytest.raises(UserError, match=says):
            trimmed_vocabulary(load_model(str(finished)), str(path), QUIET)
    options = ["--calibration-text", str(text), "--out", str(tmp_path / "out")]
    with pytest.raises(UserError, match="no step of the recipe reads --calibration-text"):
        compress.main([str(finished), *options])


def test_the_name_of_the_text_is_recorded_without_its_folder() -> None:
    config = dataclasses.replace(CompressConfig(), calibration_text="/home/me/lines.txt")
    assert config.recorded()["calibration_text"] == "lines.txt"
