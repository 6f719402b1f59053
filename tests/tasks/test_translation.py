"""Translation from pairs to text: loss, runs that resume, decoding of any line, averages, artifacts,
exports."""

from __future__ import annotations

import dataclasses
import io
import json
import math
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from rich.console import Console
from tokenizers import Tokenizer, normalizers

from tests.builders import TRANSLATION, lines, sentence_pairs, write_pairs
from tests.exports import params_from_pegasus
from tlc_jax import compress, evaluate, export, train
from tlc_jax.config import MeshConfig, TranslationConfig
from tlc_jax.core import tree
from tlc_jax.core.errors import Interrupted, UserError
from tlc_jax.inference import translator
from tlc_jax.inference.translator import Translator, translate_stream
from tlc_jax.models.beam_search import NEVER, Hypotheses
from tlc_jax.models.families import ENCODER_DECODER
from tlc_jax.parallel.mesh import make_mesh
from tlc_jax.runs.load import load_model
from tlc_jax.storage.run_directory import RunDir
from tlc_jax.tasks import decoder
from tlc_jax.tasks.batch_shapes import BatchShapes
from tlc_jax.tasks.decoder import Decoder, bytes_of_row
from tlc_jax.tasks.kinds import kind_of
from tlc_jax.tasks.long_sentences import pieces
from tlc_jax.tasks.translation import Translation

pytestmark = pytest.mark.slow

QUIET = Console(quiet=True)


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory):
    root = tmp_path_factory.mktemp("translation")
    (root / "tiny.py").write_text(TRANSLATION)
    (root / "pairs").mkdir()
    data = ["--data.dir", str(write_pairs(root / "pairs")), "--data.cache-dir", str(root / "cache")]
    fixed = ["--config", str(root / "tiny.py"), *data]
    return lambda workdir, *more: [*fixed, "--workdir", str(workdir), *more]


@pytest.fixture(scope="module")
def finished(command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    workdir = tmp_path_factory.mktemp("runs") / "finished"
    train.main(command(workdir))
    return workdir


def params_of(root: Path | str) -> dict[str, np.ndarray]:
    return {k: np.asarray(x) for k, x in tree.flatten(load_model(str(root), warn=pytest.fail).params).items()}


def task_of(run: Path) -> Translation:
    config = RunDir(run).read_config()
    task = kind_of(config).task(config, kind_of(config).open(config, RunDir(run).data))
    assert isinstance(task, Translation)
    return task


def test_a_run_learns_and_reports_bleu(finished: Path) -> None:
    assert RunDir(finished).read_config().micro_batch == 640, "auto: all of it fits"
    found = [line for line in lines(finished) if "eval/validation/loss" in line]
    assert [line["step"] for line in found] == [6, 12]
    assert found[1]["eval/validation/loss"] < found[0]["eval/validation/loss"] < np.log(320)
    assert 0 <= found[1]["eval/validation/greedy_bleu"] <= 100
    rates = [line["train/learning_rate"] for line in lines(finished) if "train/learning_rate" in line]
    expected = [0.5 * min(1, n / 8) / (max(n, 8) * 32) ** 0.5 for n in (3, 7, 11)]
    np.testing.assert_allclose(rates, expected, rtol=1e-6)


def test_an_interrupted_run_ends_as_an_unbroken_one(command, finished, tmp_path, monkeypatch) -> None:
    from tlc_jax.core import stopping

    asked = iter([False] * 6 + [True])  # step 6 asks again after its evaluation
    with monkeypatch.context() as patch:
        patch.setattr(stopping, "requested", lambda: next(asked))
        with pytest.raises(Interrupted, match="step 6"):
            train.main(command(tmp_path / "run"))
    train.main(command(tmp_path / "run"))
    assert lines(tmp_path / "run") == lines(finished)
    for path, x in params_of(finished).items():
        np.testing.assert_array_equal(params_of(tmp_path / "run")[path], x, err_msg=path)


def test_a_trimmed_vocabulary_translates(finished: Path, tmp_path: Path) -> None:
    """With the tokens of one pair, of which it says what the whole model says."""
    pair = sentence_pairs(1)[0]
    (tmp_path / "lines.txt").write_text("\n".join(pair))
    options = ["--config", "trim_vocabulary", "--bits", "32"]
    options += ["--calibration-text", str(tmp_path / "lines.txt"), "--out", str(tmp_path / "out")]
    compress.main([str(finished), *options])
    models = [load_model(str(root), warn=pytest.fail) for root in (finished, tmp_path / "out")]
    before, after = (Tokenizer.from_file(str(model.rundir.tokenizer)) for model in models)
    assert after.get_vocab_size() == models[1].config.model.vocab_size < before.get_vocab_size()
    assert [before.encode(text).tokens for text in pair] == [after.encode(text).tokens for text in pair]
    logits = []
    for model, tokenizer in zip(models, (before, after), strict=True):
        ids = (jnp.array([tokenizer.encode(text).ids]) for text in pair)
        logits.append(ENCODER_DECODER.apply(model.config.model, model.params, *ids))
    kept = [before.token_to_id(after.id_to_token(i)) for i in range(after.get_vocab_size())]
    np.testing.assert_allclose(logits[1], logits[0][..., np.array(kept)], atol=1e-5)
    [[best]] = Translator(models[1], QUIET, beams=2)([pair[0]])
    assert isinstance(best.text, str)


def test_every_target_token_of_a_set_counts_once(finished: Path) -> None:
    task = task_of(finished)
    for name, seed in (("validation", 1), ("test", 2)):
        expected = sorted(target for _, target in sentence_pairs(60, seed))
        for tokens in (320, 640):
            texts = []
            for batch in task.evaluation_batches(name, tokens, slice):
                rows = (row[row > 0] for row in batch["targets"])
                texts += [task.packed.tokenizer().decode(row[:-1].tolist()) for row in rows if len(row)]
                np.testing.assert_array_equal(batch["weights"], batch["targets"] != 0)
            assert sorted(texts) == expected


def test_only_training_is_smoothed(finished: Path) -> None:
    task, params = task_of(finished), load_model(str(finished), warn=pytest.fail).params
    assert RunDir(finished).read_config().task == TranslationConfig(bleu_sentences=4)
    batch = jax.tree.map(jnp.asarray, task.train_batch(0, slice))
    evaluated, sums = task.loss(params, batch, None)
    trained, _ = task.loss(params, batch, jax.random.key(0))
    assert float(evaluated) == float(sums["loss"])
    assert float(trained) != float(evaluated)


def test_the_mean_of_the_last_checkpoints(finished: Path) -> None:
    mean = params_of(f"{finished}@last3")
    # keep=3: steps 4, 8 and 12
    alone = [
        {k: np.asarray(x) for k, x in tree.flatten(_restored(finished, step)).items()} for step in (4, 8, 12)
    ]
    for path, x in mean.items():
        expected = np.mean([own[path].astype(np.float64) for own in alone], axis=0)
        np.testing.assert_allclose(x, expected, atol=1e-6, err_msg=path)
    assert any((x != params_of(finished)[path]).any() for path, x in mean.items())
    with pytest.raises(UserError, match="holds 3 checkpoints, not 4"):
        params_of(f"{finished}@last4")


def _restored(run: Path, step: int) -> dict:
    from tlc_jax.runs.checkpoint import restore_model

    like = load_model(str(run), warn=pytest.fail).params
    return restore_model(RunDir(run).checkpoints, like, pytest.fail, steps=[step])[0]


ODD = [
    "the model keeps the weight",
    "",
    "   ",
    "a row 😀 in the 🏠",
    "これは別の言語です",
    " ".join(["large small train"] * 200),  # 600 words
    "tabs\tand\vothers",
    "x" * 300,
]


def translated(root: str, content: bytes, **options) -> list[str]:
    out: list[str] = []
    options = {"beams": 2, "alpha": 0.6, "best": None, **options}
    translate_stream(root, io.BytesIO(content), out.append, QUIET, **options)
    return "".join(out).split("\n")


def test_every_line_has_a_translation_in_its_place(finished: Path) -> None:
    content = "".join(f"{line}\n" for line in ODD).encode() + b"not \xff UTF-8\n" + b"last"
    found = translated(str(finished), content)
    assert found.pop() == ""
    assert len(found) == len(ODD) + 2
    assert found[1] == ""
    assert not any("\n" in line or "\r" in line for line in found)
    alone = [translated(str(finished), f"{line}\n".encode())[0] for line in ODD[:4]]
    assert alone == found[:4]
    assert translated(str(finished), b"") == [""]


def test_n_best_is_sorted_and_begins_with_the_best(finished: Path) -> None:
    content = b"the model keeps\n\na layer of weight\n"
    best = translated(str(finished), content, beams=3)
    found = [line.split(" ||| ") for line in translated(str(finished), content, beams=3, best=2)[:-1]]
    numbers = [int(number) for number, _, _ in found]
    assert sorted(numbers) == numbers
    for number, expected in enumerate(best[:-1]):
        own = [(text, float(score)) for n, text, score in found if int(n) == number]
        assert own[0][0] == expected
        assert [score for _, score in own] == sorted((score for _, score in own), reverse=True)
    wrong = [({"best": 4}, "--n-best is 4 and"), ({"best": 0}, "--n-best is 0 and")]
    wrong += [({"alpha": -1.0}, "--alpha"), ({"alpha": math.nan}, "--alpha"), ({"beams": 0}, "--beams")]
    for options, match in wrong:
        with pytest.raises(UserError, match=match):
            translated(str(finished), content, **{"beams": 3, **options})


def test_long_lines_are_cut_between_sentences_then_words(finished: Path) -> None:
    tokenizer = task_of(finished).packed.tokenizer()

    def size(text: str) -> int:
        return len(tokenizer.encode(text, add_special_tokens=False).ids)

    sentences = "the layer is large. the row is small! a token of the mask; and a batch in depth"
    found = pieces(sentences, tokenizer, 20)
    assert " ".join(found) == sentences
    assert all(size(part) <= 20 for part in found)
    assert found[0].endswith((".", "!", ";"))
    words = "weight " * 50
    assert " ".join(pieces(words, tokenizer, 20)).split() == words.split()
    assert "".join(pieces("y" * 101, tokenizer, 20)) == "y" * 101
    assert pieces("short", tokenizer, 20) == ["short"]


def test_lines_that_come_slowly_are_answered_at_once(finished: Path) -> None:
    command = [sys.executable, "-m", "tlc_jax.translate", "--checkpoint", str(finished), "--beams", "1"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        expected = translated(str(finished), b"the model keeps\na row\n", beams=1)
        for line, answer in zip((b"the model keeps\n", b"a row\n"), expected, strict=False):
            process.stdin.write(line)
            process.stdin.flush()
            assert process.stdout.readline().decode() == f"{answer}\n"
        process.stdin.close()
        assert b"2 lines" in process.stderr.read()
    assert process.returncode == 0


def test_a_signal_or_a_closed_pipe_while_more_lines_are_waited_for(finished: Path) -> None:
    """The thread that waits for lines once took a lock that Python needs at its end (exit code 134)."""
    command = [sys.executable, "-m", "tlc_jax.translate", "--checkpoint", str(finished), "--beams", "1"]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    for stop, code in ((True, 75), (False, 0)):
        with subprocess.Popen(command, **pipes) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stderr is not None
            process.stdin.write(b"the model keeps\n")
            process.stdin.flush()
            process.stdout.readline()
            if stop:
                process.send_signal(signal.SIGTERM)
            else:
                process.stdout.close()
                process.stdin.write(b"a row\n")
                process.stdin.flush()
            process.wait(timeout=60)
            told = process.stderr.read().decode()
        assert process.returncode == code, told
        assert ("1 line is translated; to resume, give the lines from 2 on" in told) == stop


def test_lines_before_one_that_is_refused_are_translated(finished: Path) -> None:
    def lines() -> Iterator[bytes]:
        yield from (b"the model keeps", b"a row")
        raise UserError("line 3 is refused")

    out: list[str] = []
    words = "line 3 is refused. 2 lines are translated; to resume, give the lines from 3 on"
    with pytest.raises(UserError, match=words):
        translate_stream(str(finished), lines(), out.append, QUIET, beams=1, alpha=0.6, best=None)
    assert out == [
        f"{line}\n" for line in translated(str(finished), b"the model keeps\na row\n", beams=1)[:-1]
    ]


@pytest.mark.parametrize("line", ["天" * 13, "☃", "☃ the model keeps ☃"])
def test_a_text_may_have_more_tokens_than_bytes(finished: Path, tmp_path: Path, line: str) -> None:
    """With a tokenizer that adds a space, or spells a character out."""
    run = shutil.copytree(finished, tmp_path / "run")
    path = RunDir(run).tokenizer
    tokenizer = Tokenizer.from_file(str(path))
    spelled = [normalizers.Replace("☃", "ﷺﷺ"), normalizers.NFKC(), normalizers.Prepend(" ")]
    tokenizer.normalizer = normalizers.Sequence(spelled)
    tokenizer.save(str(path))
    translator = Translator(load_model(str(run)), QUIET, beams=1)
    longest = translator._decoder._longest
    assert len(tokenizer.encode(line, add_special_tokens=False).ids) >= longest
    [[translation]] = translator([line])
    assert isinstance(translation.text, str)


def test_scores_that_are_no_numbers_are_refused(finished: Path) -> None:
    model = load_model(str(finished))
    params = jax.tree.map(lambda x: np.full_like(x, np.nan), model.params)
    with pytest.raises(UserError, match="no score that is a number: its weights are damaged"):
        Translator(dataclasses.replace(model, params=params), QUIET, beams=2)(["the model keeps"])


def test_a_byte_order_mark_is_no_text(finished: Path) -> None:
    plain = b"the model keeps\na row\n"
    expected = translated(str(finished), plain)
    assert translated(str(finished), b"\xef\xbb\xbf" + plain) == expected
    assert translated(str(finished), b"\xef\xbb\xbf") == ["", ""]  # a line, and an empty one
    inside = translated(str(finished), b"a row\n\xef\xbb\xbfthe model\n")
    assert len(inside) == 3


def test_what_happens_to_lines_is_counted_at_the_end(finished: Path) -> None:
    told = Console(file=io.StringIO(), width=200)
    content = "".join(f"{line}\n" for line in ODD).encode() + b"not \xff UTF-8\n" + b"the model\n"
    out: list[str] = []
    options = {"beams": 4, "alpha": 0.6, "best": 3}
    translate_stream(str(finished), io.BytesIO(content), out.append, told, **options)  # type: ignore[arg-type]
    assert isinstance(told.file, io.StringIO)
    counts = Counter(line.split(" ||| ")[0] for line in "".join(out).splitlines())
    fewer = sum(count < 3 for count in counts.values())
    lines = told.file.getvalue().splitlines()
    assert fewer > 3  # empty, blank and cut lines have one
    assert f"{fewer} of 10 lines had fewer than 3 hypotheses" in lines
    assert (
        "2 of 10 lines were too long for the model and are translated in parts, with one"
        in told.file.getvalue()
    )
    assert "1 of 10 lines held bytes that are not UTF-8, each replaced by U+FFFD" in lines
    quiet = Console(file=io.StringIO(), width=200)
    translate_stream(str(finished), io.BytesIO(b"a row\n"), out.append, quiet, **options)  # type: ignore[arg-type]
    assert isinstance(quiet.file, io.StringIO)
    assert " of 1 lines" not in quiet.file.getvalue()


def test_more_beams_than_there_can_be_are_refused(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="--beams 5000 is more than the 320 entries"):
        Translator(load_model(str(finished)), QUIET, beams=5000)
    config = RunDir(finished).read_config().model
    monkeypatch.setattr(translator, "usable_memory", lambda: 2 * bytes_of_row(config, 99, 40))
    with pytest.raises(UserError, match=r"--beams 300 needs about .* GiB .*give at most 99"):
        Translator(load_model(str(finished)), QUIET, beams=300)
    monkeypatch.setattr(translator, "usable_memory", lambda: 0)
    assert Translator(load_model(str(finished)), QUIET, beams=1)(["a row"])


def test_five_shapes_whatever_is_translated(finished: Path) -> None:
    translator = Translator(load_model(str(finished)), QUIET, beams=1)
    sentences = [" ".join(pair) for pair in sentence_pairs(40, 5)]
    doubled = [f"{sentence} {sentence}" for sentence in sentences]
    for texts in (sentences[:2], sentences, [" ".join(sentences[:3])], ["a"] * 30, doubled):
        translator(texts)
    assert len(translator._decoder._compiled) <= 5


def test_a_batch_has_as_many_rows_on_each_device(finished: Path) -> None:
    decoder = Translator(load_model(str(finished)), QUIET)._decoder
    decoder._shapes = BatchShapes(100)
    decoder._shapes.suit([40] * 50)
    assert decoder._shape(3, 10) == (8, 24), "few of them"
    assert decoder._shape(50, 25) == (56, 40), "many of them"


def test_many_beams_take_few_rows_at_a_time(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a batch needs no more memory than there is; what it says does not change."""
    sentences = [" ".join(pair) for pair in sentence_pairs(20, 5)]
    expected = Translator(load_model(str(finished)), QUIET, beams=6)(sentences)
    config = RunDir(finished).read_config().model
    limit = bytes_of_row(config, 6, 24)
    monkeypatch.setattr(decoder, "_MOST_BYTES", limit)
    few = Translator(load_model(str(finished)), QUIET, beams=6)
    shapes = []
    search = few._decoder._search
    few._decoder._search = lambda params, source, limits: (  # type: ignore[assignment]
        shapes.append(source.shape) or search(params, source, limits)
    )
    assert [own[0].text for own in few(sentences)] == [own[0].text for own in expected]
    devices = jax.device_count()
    for rows, length in shapes:
        assert rows == devices or rows * bytes_of_row(config, 6, length) <= devices * limit


def test_an_artifact_translates_evaluates_and_exports(finished: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "small"
    run = f"{finished}@last2"
    compress.main(["--checkpoint", run, "--bits", "8", "--sparsity", "0.3", "--out", str(out)])
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["source"]["mean_of"].keys() == {"8", "12"}
    capsys.readouterr()
    data = RunDir(finished).read_config().data
    for name in ("validation.tsv", "test.tsv"):  # what it was trained on is not needed
        shutil.copy(Path(str(data.dir)) / name, tmp_path)
    evaluate.main(["--checkpoint", str(out), "--task", "translation", "--json", "--data.dir", str(tmp_path)])
    found = json.loads(capsys.readouterr().out)
    names = {"loss", "perplexity", "bleu", "bleu_compounds", "chrf", "signature"}
    assert {f"eval/{name}/{own}" for name in ("validation", "test") for own in names} <= found.keys()
    assert len(Translator(load_model(str(out)), QUIET)(["the model", "a row"])) == 2

    export.main(["--checkpoint", str(out), "--format", "huggingface", "--out", str(tmp_path / "peg")])
    weights = safetensors.numpy.load((tmp_path / "peg" / "model.safetensors").read_bytes())
    says = json.loads((tmp_path / "peg" / "config.json").read_text())
    assert (says["normalize_before"], says["normalize_embedding"]) == (True, False), "CTranslate2 reads them"
    names = ENCODER_DECODER.huggingface_names(RunDir(finished).read_config().model)
    again = tree.flatten(params_from_pegasus(weights, names))
    for path, x in params_of(out).items():
        np.testing.assert_array_equal(again[path], x, err_msg=path)


def test_what_does_not_go_together_is_refused(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--task sst2"):
        evaluate.main(["--checkpoint", str(finished), "--task", "sst2"])
    with pytest.raises(ValueError, match="do not hold task.row_multiple"):
        dataclasses.replace(RunDir(finished).read_config(), batch_size=100, micro_batch=None)
    compress.main(["--checkpoint", str(finished), "--bits", "8", "--out", str(tmp_path / "small")])
    out = ["--format", "compressed-tensors", "--out", str(tmp_path / "codes")]
    with pytest.raises(UserError, match="which compressed-tensors cannot hold"):
        export.main(["--checkpoint", str(tmp_path / "small"), *out])
    assert not (tmp_path / "codes").exists()


def test_fewer_hypotheses_than_asked_for_are_not_filled_up(finished: Path) -> None:
    model, tokenizer = RunDir(finished).read_config().model, task_of(finished).packed.tokenizer()
    decoder = Decoder(model, tokenizer, make_mesh(MeshConfig()), longest=64, beams=3, best=3)
    tokens = np.array([[[5, 6, 1], [7, 1, 0], [0, 0, 0]]])
    best = Hypotheses(tokens, np.array([[-1.0, -2.0, NEVER]]), np.array([[True, True, False]]))
    assert [one.score for one in decoder._texts(best, 0)] == [-1.0, -2.0]
