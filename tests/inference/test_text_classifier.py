"""Predictions of new texts equal those of the same texts as a data set, in any order and company."""

from __future__ import annotations

import io
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

import tlc_jax
from tests.builders import documents
from tests.golden import make_d21cde9 as old
from tlc_jax import evaluate, predict
from tlc_jax.core.errors import UserError

TEXTS = ["", *(line for text in documents(40, seed=5) for line in text.split("\n"))]


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small one that commit d21cde9 trained."""
    return old.unpacked(tmp_path_factory.mktemp("old") / "work") / "classifier"


@pytest.fixture(scope="module")
def model(classifier: Path) -> tlc_jax.Model:
    return tlc_jax.load(classifier)


def run(reference: Path, text: bytes, *options: str) -> list[str]:
    """The lines that `predict` writes for this standard input."""
    output = io.BytesIO()
    with tempfile.TemporaryFile("w+") as stdin, pytest.MonkeyPatch.context() as patch:
        stdin.buffer.write(text)
        stdin.seek(0)
        patch.setattr(sys, "stdin", stdin)
        patch.setattr(sys, "stdout", stdout := io.TextIOWrapper(output, write_through=True))
        predict.main([str(reference), *options])
    stdout.detach()
    return output.getvalue().decode().splitlines()


def test_each_text_has_the_probabilities_that_it_has_alone(model: tlc_jax.Model) -> None:
    together = model.predict(TEXTS)
    for i in (0, 1, 7, len(TEXTS) - 1):
        [alone] = model.predict([TEXTS[i]])
        assert alone.label == together[i].label
        np.testing.assert_allclose(
            [*alone.probabilities.values()], [*together[i].probabilities.values()], atol=1e-6
        )
    for prediction in together[1:]:
        assert sum(prediction.probabilities.values()) == pytest.approx(1)
        assert prediction.label is not None
        assert prediction.probabilities[prediction.label] == max(prediction.probabilities.values())
    assert together[0].label is None, "a blank text has no label"


def test_predictions_are_those_of_evaluate(classifier: Path, model: tlc_jax.Model, tmp_path: Path) -> None:
    (tmp_path / "new.tsv").write_text("\n".join(["text", *TEXTS[1:]]), encoding="utf-8")
    file = tmp_path / "predictions.jsonl"
    evaluate.main(["--checkpoint", str(classifier), "--data.dir", str(tmp_path / "new.tsv"),
                   "--predictions", str(file)])  # fmt: skip
    expected = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    for prediction, line in zip(model.predict(TEXTS[1:]), expected, strict=True):
        assert prediction.label == line["predicted"]
        for name, value in line["probabilities"].items():
            assert prediction.probabilities[name] == pytest.approx(value, abs=2e-6)


def test_lines_are_answered_in_order(classifier: Path, model: tlc_jax.Model) -> None:
    lines = [f"{text} {i}" for i, text in enumerate(TEXTS * 8)]  # more than a window
    header, *rows = run(classifier, "\n".join(lines).encode())
    assert header.split("\t") == ["label", *model.trained.label_names]
    assert [row.split("\t")[0] for row in rows] == [each.label for each in model.predict(lines)]
    objects = [json.loads(row) for row in run(classifier, "\n".join(lines[:9]).encode(), "--json")]
    assert [each["label"] for each in objects] == [row.split("\t")[0] for row in rows[:9]]


def test_what_happens_to_lines_is_counted(classifier: Path, capsys: pytest.CaptureFixture[str]) -> None:
    long = "a word " * 400
    rows = run(classifier, b"fine\n\n\xff\xfe\n" + long.encode())
    assert len(rows) == 5
    assert rows[2].split("\t")[0] == ""
    said = capsys.readouterr().err
    assert "1 of 4 lines were too long for the model" in said
    assert "1 of 4 lines have no text" in said
    assert "1 of 4 lines held bytes that are not UTF-8" in said


def test_pairs_need_a_tab(classifier: Path) -> None:
    assert len(run(classifier, b"one\ttwo\nthree\tfour\n", "--pairs")) == 3
    with pytest.raises(UserError, match="line 2 of standard input has 1 text.* 0 lines are predicted"):
        run(classifier, b"one\ttwo\nthree\n", "--pairs")


def test_a_model_without_labels_predicts_nothing(finished: Path) -> None:
    with pytest.raises(UserError, match="is no classifier: it was trained on another task"):
        tlc_jax.load(finished).predict(["text"])
    with pytest.raises(UserError, match="is no translation model"):
        tlc_jax.load(finished).translate(["text"])


def test_names_of_the_package() -> None:
    assert {"load", "Model", "compress_folder", "__version__"} <= set(dir(tlc_jax))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        getattr(tlc_jax, "nothing")  # noqa: B009 pyright knows that there is none
    with pytest.raises(UserError, match="is neither a run directory nor an artifact"):
        tlc_jax.load("/does/not/exist")


def test_a_compressed_model_is_used_at_once(model: tlc_jax.Model, tmp_path: Path) -> None:
    small = model.compress(tmp_path / "small", bits=8)
    agree = sum(a.label == b.label for a, b in zip(small.predict(TEXTS), model.predict(TEXTS), strict=True))
    assert agree > 0.9 * len(TEXTS)
    small.export(tmp_path / "exported")
    assert (tmp_path / "exported" / "model.safetensors").is_file()
    with pytest.raises(UserError, match="there is no option bit: give one of bits, "):
        model.compress(tmp_path / "other", bit=4)
    with pytest.raises(UserError, match="format is 'onnx': give 'huggingface' or 'compressed-tensors'"):
        model.export(tmp_path / "other", format="onnx")
