"""Predictions of new texts equal those of the same texts as a data set, in any order and company."""

from __future__ import annotations

import dataclasses
import io
import json
import math
import os
import pty
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tlc_jax
from tests.builders import documents
from tests.golden import make_d21cde9 as old
from tlc_jax import evaluate, predict
from tlc_jax.config import DataConfig
from tlc_jax.core import progress
from tlc_jax.core.errors import UserError
from tlc_jax.data.labelled.example_packing import prepare_examples
from tlc_jax.inference import classified_stream, evaluation
from tlc_jax.runs.load import load_model
from tlc_jax.tasks.kinds import kind_of
from tlc_jax.training.view import make_console

TEXTS = ["", *(line for text in documents(40, seed=5) for line in text.split("\n"))]


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small one that commit d21cde9 trained."""
    return old.unpacked(tmp_path_factory.mktemp("old") / "work") / "classifier"


@pytest.fixture(scope="module")
def model(classifier: Path) -> tlc_jax.Model:
    return tlc_jax.load(classifier)


def trained_on(model: tlc_jax.Model, texts: int | None) -> tlc_jax.Model:
    """The model as one of single texts (1), of pairs (2), or one that does not say."""
    return tlc_jax.Model("runs/it", dataclasses.replace(model.trained, texts_per_example=texts))


def loading(patch: pytest.MonkeyPatch, model: tlc_jax.Model) -> None:
    """Let commands load this model."""
    for module in (classified_stream, evaluation):
        patch.setattr(module, "load_model", lambda *_, **__: model.trained)


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
    with pytest.raises(
        UserError, match="line 2 of standard input has 1 text .*1 line is predicted; to resume"
    ):
        run(classifier, b"one\ttwo\nthree\n", "--pairs")


def test_what_is_no_text_is_refused_by_its_place(model: tlc_jax.Model) -> None:
    for texts, message in (
        ("one text", r"texts is 'one text': give a list"),
        ("", r"texts is '': give a list"),
        (7, "texts is 7: give a list"),
        (["a", 3], r"texts\[1\] is 3: give strings, or pairs of strings"),
        ([None], r"texts\[0\] is None: give"),
        ([math.nan], r"texts\[0\] is nan: give"),
        ([b"a"], r"texts\[0\] is b'a': give"),
        ([("a", "b", "c")], r"texts\[0\] is \('a', 'b', 'c'\): give"),
        ([("a", 1)], r"texts\[0\] is \('a', 1\): give"),
        (["a", ("a", "b")], r"texts\[1\] is a pair of texts and texts\[0\] is a single text"),
        (["\ud800"], r"texts\[0\] is '.ud800', which is no Unicode"),
    ):
        given: Any = texts
        with pytest.raises(UserError, match=message):
            model.predict(given)
    with pytest.raises(UserError, match="lines is 'one line': give a list"):
        model.translate("one line")
    assert model.predict([]) == []


def test_a_table_is_read_as_for_training(
    classifier: Path, model: tlc_jax.Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its labels are passed over, whatever they are; an empty text has no label, in its place."""
    rows = [("fine", "7"), ("", "unheard of"), ("dull", "")]
    (tmp_path / "new.csv").write_text("label,text\n" + "".join(f"{label},{text}\n" for text, label in rows))
    lines = run(classifier, b"", str(tmp_path / "new.csv"))[1:]
    assert "note: columns that are not read: label" in capsys.readouterr().err
    first, last = model.predict(["fine", "dull"])
    assert [line.split("\t")[0] for line in lines] == [first.label, "", last.label]
    assert lines[1] == "\t\t", "a blank text has no probabilities"
    (tmp_path / "two.jsonl").write_text('{"text": "a", "text_b": "b"}\n{"text": "a", "text_b": "c"}\n')
    pairs = model.predict([("a", "b"), ("a", "c")])
    lines = run(classifier, b"", str(tmp_path / "two.jsonl"))[1:]
    assert [line.split("\t")[1] for line in lines] == [f"{p.probabilities['other']:.6f}" for p in pairs]
    (tmp_path / "new.txt").write_text("fine\ndull\n")
    assert run(classifier, b"", str(tmp_path / "new.txt"))[1:] == run(classifier, b"fine\ndull\n")[1:]
    for name, message in (("none.tsv", "does not exist: give a table or a file"), (".", "is a folder")):
        with pytest.raises(UserError, match=message):
            run(classifier, b"", str(tmp_path / name))


def test_pairs_and_single_texts_are_those_of_training(
    model: tlc_jax.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    single, pairs = trained_on(model, 1), trained_on(model, 2)
    for trained, text in ((single, ("a", "b")), (pairs, "a")):
        with pytest.raises(UserError, match="texts holds .* was trained on .*: give "):
            trained.predict([text])
    assert len(single.predict(["a"]) + pairs.predict([("a", "b")])) == 2
    run_here, table = Path("runs/it"), tmp_path / "pairs.tsv"
    table.write_text("text\ttext_b\tlabel\na\tb\tother\nc\td\tthe\n")
    loading(monkeypatch, single)
    for options, text, message in (
        (["--pairs"], b"a\tb\n", "runs/it was trained on single texts: omit --pairs"),
        ([str(table)], b"", "pairs.tsv holds pairs of texts, and .* was trained on single texts"),
        ([], b"text\tlabel\na\tb\n", "line 1 of standard input holds a tab.*predict runs/it TABLE.tsv"),
    ):
        with pytest.raises(UserError, match=message):
            run(run_here, text, *options)
    with pytest.raises(UserError, match="pairs.tsv holds pairs of texts, and .* was trained on single texts"):
        evaluate.main(["run", "--data.dir", str(table)])
    loading(monkeypatch, pairs)
    assert len(run(run_here, b"a\tb\n")) == 2, "without --pairs"
    with pytest.raises(
        UserError, match="line 1 of standard input has 1 text between tabs: runs/it takes two"
    ):
        run(run_here, b"a\n")


def test_a_tab_inside_a_text_is_noted(classifier: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(run(classifier, b"one\ntwo\tthree\n")) == 3
    assert "1 of 2 lines hold a tab, which is part of the text" in capsys.readouterr().err


def test_a_model_knows_whether_it_was_trained_on_pairs(
    classifier: Path, model: tlc_jax.Model, tmp_path: Path
) -> None:
    """From its data, and an artifact from its manifest; older ones do not say."""
    assert load_model(str(classifier)).texts_per_example is None
    config = DataConfig(
        name="files",
        dir=str(classifier.parent / "tables" / "validation.tsv"),
        tokenizer=str(model.trained.rundir.tokenizer),
        sequence_length=32,
        held_out=0.2,
        cache_dir=str(tmp_path / "cache"),
    )
    vocabulary = model.trained.config.model.vocab_size
    data = prepare_examples(config, vocabulary, make_console(stderr=True), None, model.labels)
    assert kind_of(model.trained.config).texts_per_example(data.folder) == 2
    single = dataclasses.replace(model, trained=dataclasses.replace(model.trained, texts_per_example=1))
    small = single.compress(tmp_path / "small", bits=8)
    assert small.trained.texts_per_example == 1
    assert "classification of single texts" in repr(small)


def test_on_a_terminal_it_says_that_it_reads_the_keyboard(classifier: Path) -> None:
    """And tabs are tabs."""
    above, below = pty.openpty()
    with pytest.MonkeyPatch.context() as patch, os.fdopen(below, "r+b", buffering=0) as terminal:
        patch.setattr(sys, "stdin", io.TextIOWrapper(terminal))
        patch.setattr(sys, "stdout", io.TextIOWrapper(terminal, write_through=True))
        patch.setattr(sys, "stderr", io.TextIOWrapper(terminal, write_through=True))
        os.write(above, b"fine\n\x04")
        predict.main([str(classifier)])
        shown = os.read(above, 1 << 16).decode()
        for stream in (sys.stdin, sys.stdout, sys.stderr):
            stream.detach()
    os.close(above)
    assert "reading the keyboard: a text on each line, Ctrl-D at the end" in shown
    assert "label\tother\tthe" in shown
    assert "\x1b" not in shown.replace("\x1b[?25h", ""), "no bar is drawn over what is typed"


def test_a_model_stays_the_one_that_was_loaded(
    classifier: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """In another current folder, and while its run trains on."""
    monkeypatch.chdir(classifier.parent)
    model = tlc_jax.load("classifier")
    monkeypatch.chdir(tmp_path)
    assert model.reference == str(classifier)
    earlier = dataclasses.replace(model.trained, step=7)
    assert dataclasses.replace(model, trained=earlier).evaluate()["step"] == 7
    assert model.labels == ("other", "the")
    assert repr(model) == (
        f"Model({str(classifier)!r}: classification, 9,970 weights, 150 updates, labels other, the)"
    )
    [prediction] = model.predict(["fine"])
    assert prediction.probability == max(prediction.probabilities.values())
    assert math.isnan(model.predict([" "])[0].probability)


def test_messages_name_arguments(model: tlc_jax.Model, tmp_path: Path) -> None:
    small = model.compress(tmp_path / "small", bits=8)
    for call, message in (
        (small.evaluate, r"that its data are in .*: give data_dir tables if that is"),
        (lambda: model.evaluate("/nowhere"), "^data_dir=/nowhere does not exist: give data_dir a table"),
        (lambda: model.compress(tmp_path / "small"), f"^out={tmp_path}/small is not empty"),
        (lambda: model.compress(tmp_path / "x", scope="layer"), "nothing is pruned: give sparsity$"),
        (lambda: tlc_jax.compress_folder(tmp_path / "no", tmp_path / "x"), f"^{tmp_path}/no is not a"),
    ):
        with pytest.raises(UserError, match=message) as caught:
            call()
        assert "--" not in str(caught.value)
    assert caught.value._render_traceback_() == [f"UserError: {caught.value}"], "all that a notebook shows"


def test_long_predictions_say_how_far_they_are(
    model: tlc_jax.Model, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model.predict(TEXTS)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(progress, "_PLAIN_EVERY", -1.0)
    model.predict(TEXTS)
    assert f"predicting: {len(TEXTS)} of {len(TEXTS)} texts, 0 s left\n" in capsys.readouterr().err


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


def test_a_compressed_model_is_used_at_once(
    model: tlc_jax.Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = model.compress(tmp_path / "small", bits=4)
    said = capsys.readouterr().err
    for line in ("quality ", "relative error (root mean square)", "9,970 weights", "  file  ", "written to "):
        assert line in said
    assert f"granularity='group:64', matrices_only=True, out='{tmp_path}/small-group64', range='mse'" in said
    small.compress(tmp_path / "again", bits=2)
    said = capsys.readouterr().err
    assert "is compressed already, and its weights lose a second time: compress its run" in said
    assert "granularity=" not in said
    assert "\nbits (8): 1 to 8, or 32: not quantized.\n" in str(tlc_jax.Model.compress.__doc__)
    agree = sum(a.label == b.label for a, b in zip(small.predict(TEXTS), model.predict(TEXTS), strict=True))
    assert agree > 0.8 * len(TEXTS)
    small.export(tmp_path / "exported")
    assert (tmp_path / "exported" / "model.safetensors").is_file()
    with pytest.raises(UserError, match="there is no option bit: give one of bits, "):
        model.compress(tmp_path / "other", bit=4)
    with pytest.raises(UserError, match="format is 'onnx': give 'huggingface' or 'compressed-tensors'"):
        model.export(tmp_path / "other", format="onnx")
