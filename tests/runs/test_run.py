"""Whole runs through the command: what they leave behind, resuming, stopping, refusing."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pexpect
import pytest
from rich.console import Console

from tests.builders import assert_equal_runs, lines
from tlc_jax import train
from tlc_jax.config import Config, PairsConfig, TranslationConfig
from tlc_jax.config.model import EncoderDecoderConfig, ModelConfig
from tlc_jax.core import stopping
from tlc_jax.core.errors import Interrupted, UserError
from tlc_jax.inference.evaluation import evaluate_model
from tlc_jax.inference.model_with_data import load_with_data
from tlc_jax.runs.checkpoint import whole_steps
from tlc_jax.storage.run_directory import RunDir
from tlc_jax.tasks.kinds import kind_of
from tlc_jax.training import loop
from tlc_jax.training.due import Stop
from tlc_jax.training.metrics import read_metrics
from tlc_jax.training.session import Session

QUIET = Console(quiet=True)


@pytest.mark.slow
def test_a_run_directory_tells_its_story(finished: Path) -> None:
    names = {path.name for path in finished.iterdir()}
    assert names == {
        "config.json",
        "environment.json",
        "tokenizer.json",
        "metrics.jsonl",
        "checkpoints",
        "data",
        "lock",
    }
    found = read_metrics(finished / "metrics.jsonl")
    assert [line["step"] for line in found] == [0, 4, 6, 8, 12, 12]
    assert {f"eval/held_out/two_sided_bigram_{name}" for name in ("perplexity", "nats_per_byte")} <= found[
        0
    ].keys()
    assert found[1]["tokens"] == 4 * 16 * 32
    assert found[1].keys() >= {
        "train/loss",
        "train/perplexity",
        "train/gradient_norm",
        "train/learning_rate",
        "epoch",
    }
    assert found[-1].keys() >= {"eval/held_out/loss", "eval/held_out/perplexity", "eval/held_out/accuracy"}
    assert found[-1]["eval/held_out/loss"] < found[2]["eval/held_out/loss"] < np.log(300)
    times = [(line["training_seconds"], line["total_seconds"]) for line in found]
    assert times == sorted(times)
    assert all(training <= total for training, total in times)
    start = json.loads((finished / "environment.json").read_text())["starts"][0]
    assert start["packages"]["jax"] == jax.__version__


def test_the_first_screen(command, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    train.main(command(tmp_path / "w", "--dry-run", "--model.num-layers", "3"))
    shown = capsys.readouterr().out
    for piece in (
        "num_layers             3   (file: 2)",
        "changed    model.num_layers 3 (was 2)",
        "model      3 layers of width 32, 50,348 parameters, on 8 x cpu",
        "data       there: 3 text files",
        f"writes to  {tmp_path / 'w'}",
    ):
        assert piece in shown
    assert not (tmp_path / "w").exists(), "a dry run writes nothing"
    train.main([*command(tmp_path / "w", "--dry-run"), "--data.dir", str(tmp_path / "none")])
    assert "NOT THERE: data.dir names" in capsys.readouterr().out


@pytest.mark.slow
def test_running_again_does_nothing(finished: Path, command, capsys: pytest.CaptureFixture) -> None:
    before = lines(finished)
    train.main(command(finished))
    assert "complete: 12 steps" in capsys.readouterr().out
    assert lines(finished) == before


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stop_after", "sent"), [(3, signal.SIGINT), (5, signal.SIGTERM), (9, signal.SIGTERM)]
)
def test_an_interrupted_run_equals_an_unbroken_one(
    finished: Path,
    command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
    stop_after: int,
    sent: signal.Signals,
) -> None:
    """Bit for bit, wherever it stops: before, at and after lines, evaluations and checkpoints."""
    for number in (signal.SIGINT, signal.SIGTERM):  # put back when the test is over
        request.addfinalizer(functools.partial(signal.signal, number, signal.getsignal(number)))
    stopping.listen()
    monkeypatch.setattr(stopping, "_requested", False)  # and again when the patches are undone
    train_on = loop.train

    def interrupted(session: Session) -> Stop:
        step_on = session.view.stepped

        def stepped(step: int, seconds: float) -> None:
            step_on(step, seconds)
            if step == stop_after - 1:
                signal.raise_signal(sent)

        session.view.stepped = stepped  # type: ignore[method-assign]
        return train_on(session)

    monkeypatch.setattr(loop, "train", interrupted)
    with pytest.raises(Interrupted, match=f"after step {stop_after}"):
        train.main(command(tmp_path / "w"))
    monkeypatch.undo()
    train.main(command(tmp_path / "w"))
    assert_equal_runs(finished, tmp_path / "w")
    assert len(json.loads((tmp_path / "w" / "environment.json").read_text())["starts"]) == 2


@pytest.mark.slow
def test_a_run_needs_neither_its_source_nor_the_cache(
    finished: Path, command, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = shutil.copytree(corpus, tmp_path / "text")
    arguments = [
        *command(tmp_path / "w"),
        "--data.dir",
        str(gone),
        "--data.cache-dir",
        str(tmp_path / "cache"),
    ]
    monkeypatch.setattr(loop, "train", lambda session: session.saver.save(1, session.state, {}))
    train.main(arguments)
    monkeypatch.undo()
    shutil.rmtree(gone)
    shutil.rmtree(tmp_path / "cache")
    shutil.rmtree(tmp_path / "w" / "checkpoints")
    train.main(arguments)
    assert lines(tmp_path / "w") == lines(finished)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--model.num-layers", "3"], r"another config: model.num_layers is 3 but the run has 2"),
        (["--seed", "1"], r"seed is 1 but the run has 0"),
        (["--data-share", "0.5"], r"data_share is 0.5 but the run has 1.0"),
        (["--budget.steps", "24"], r"budget.steps is 24 but the run has 12"),
    ],
)
def test_another_config_is_refused(finished: Path, command, more: list[str], says: str) -> None:
    before = {path: path.read_bytes() for path in finished.iterdir() if path.is_file()}
    with pytest.raises(UserError, match=says):
        train.main(command(finished, *more))
    assert before == {path: path.read_bytes() for path in finished.iterdir() if path.is_file()}


def test_refusals_leave_nothing(command, tmp_path: Path, finished: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        train.main([*command(tmp_path / "w"), "--data.dir", str(tmp_path / "none")])
    with pytest.raises(UserError, match="micro_batch is 12, which does not split over 8 devices"):
        train.main(command(tmp_path / "w", "--batch-size", "12", "--micro-batch", "12"))
    tokenizer = str(finished / "tokenizer.json")
    with pytest.raises(UserError, match="vocab_size is 400 but the tokenizer .* has 300"):
        train.main(command(tmp_path / "w", "--model.vocab-size", "400", "--data.tokenizer", tokenizer))
    assert not (tmp_path / "w").exists()


def test_what_a_killed_beginning_has_left_is_no_run_and_not_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "lock").touch()
    (tmp_path / "config.json.0123abcd.tmp").write_text("{")
    assert not RunDir(tmp_path).exists()
    (tmp_path / "thesis.tmp").touch()
    with pytest.raises(UserError, match="is not empty and holds no run"):
        RunDir(tmp_path).exists()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[" * 100_000, "nested too deeply"),
        ("[]", "Config must be an object"),
        ("\xff", "can't decode"),
        (" " * (2 << 20), "larger than the"),
        ('{"seed": {"a": 1}}', "unknown or missing keys"),
        ("NaN", "no number of JSON"),
    ],
    ids=lambda text: text[:20],
)
def test_a_config_of_a_stranger(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=f"config.json is not the config of a run: .*{says}"):
        RunDir(tmp_path).read_config()


@pytest.mark.parametrize(
    "change",
    [{"model": {"vocab_size": 10**12}}, {"model": {"max_positions": 2**31}}, {"batch_size": 10**18}],
    ids=repr,
)
def test_sizes_that_no_program_can_count_are_refused(finished: Path, tmp_path: Path, change: dict) -> None:
    config = json.loads((finished / "config.json").read_text(encoding="utf-8"))
    for name, value in change.items():
        config[name] = {**config[name], **value} if isinstance(value, dict) else value
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(UserError, match="must be at most 1,073,741,824"):
        RunDir(tmp_path).read_config()


def test_more_layers_than_any_model_has_are_refused() -> None:
    """Where they share their parameters, no shape of a tensor contradicts the number."""
    assert ModelConfig(num_layers=1000, shared_layers="all").num_layers == 1000
    for kind in (ModelConfig, EncoderDecoderConfig):
        with pytest.raises(ValueError, match=r"model.num_layers must be at most 1,000, not 1000000"):
            kind(num_layers=10**6)


@pytest.mark.parametrize("change", [{"batch_size": 10**9}, {"micro_batch": "auto"}], ids=repr)
def test_what_is_computed_at_once_is_bounded(finished: Path, tmp_path: Path, change: dict) -> None:
    """Whatever the config of a run says that somebody else wrote."""
    copy = shutil.copytree(finished, tmp_path / "run")
    config = json.loads((copy / "config.json").read_text(encoding="utf-8"))
    (copy / "config.json").write_text(json.dumps(config | change), encoding="utf-8")
    loaded, last = load_with_data(str(copy), QUIET), read_metrics(finished / "metrics.jsonl")[-1]
    held_out = loaded.task.evaluation_size("held_out")
    assert loaded.config.at_once < 2 * max(held_out, config["batch_size"])
    found = evaluate_model(loaded, QUIET)
    assert found["eval/held_out/loss"] == pytest.approx(last["eval/held_out/loss"], rel=1e-5)


def test_what_a_translation_computes_at_once_is_bounded() -> None:
    task, data = TranslationConfig(row_multiple=512), PairsConfig(sequence_length=64)
    config = Config(model=EncoderDecoderConfig(), task=task, data=data, batch_size=10**9)
    assert kind_of(config).bounded(config, 10**6).at_once == 1 << 15
    assert kind_of(config).bounded(config, 3).at_once == max(4, jax.device_count()) * 64
    parts = dataclasses.replace(config, micro_batch=10**9 // 512)
    assert kind_of(parts).bounded(parts, 10**6).batch_size == 1 << 15
    usual = dataclasses.replace(config, batch_size=1 << 15)
    assert kind_of(usual).bounded(usual, 3) is usual
    long = dataclasses.replace(
        config,
        data=PairsConfig(sequence_length=10**6),
        task=TranslationConfig(),
    )
    with pytest.raises(UserError, match=r"a data.sequence_length of 1,000,000, and at most 32,768"):
        kind_of(long).bounded(long, 3)


@pytest.mark.slow
def test_ctrl_c_while_packing(command, tmp_path: Path) -> None:
    """Wherever a real signal falls before training: exit code 75, nothing half done, and resumable."""
    arguments = [*command(tmp_path / "w"), "--data.cache-dir", str(tmp_path / "cache"), "--budget.steps", "3"]
    start = [sys.executable, "-m", "tlc_jax.train", *arguments]
    process = subprocess.Popen(start, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert any("Reading" in line for line in process.stdout), "reading is over, the tokenizer comes next"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 75
    assert "interrupted" in errors
    assert not list((tmp_path / "cache").glob("*.tmp"))
    train.main(arguments)
    assert lines(tmp_path / "w")[-1]["step"] == 3


@pytest.mark.slow
def test_starting_from_another_run(
    finished: Path, command, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    train.main(command(tmp_path / "w", "--init-from", str(finished), "--seed", "4"))
    assert f"parameters from {finished}, step 12" in capsys.readouterr().out
    ours, theirs = (read_metrics(w / "metrics.jsonl") for w in (tmp_path / "w", finished))
    assert ours[1]["train/loss"] < theirs[1]["train/loss"] - 0.2, "it starts from what the other learned"
    assert (tmp_path / "w" / "tokenizer.json").read_bytes() == (finished / "tokenizer.json").read_bytes()
    train.main(command(tmp_path / "mean", "--init-from", f"{finished}@last2", "--budget.steps", "1"))
    assert f"parameters from {finished}@last2, step 12" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"give no --model"):
        train.main(command(tmp_path / "x", "--init-from", str(finished), "--model.num-layers", "3"))
    with pytest.raises(UserError, match=r"is neither a run directory"):
        train.main(command(tmp_path / "x", "--init-from", str(tmp_path)))


@pytest.mark.slow
def test_seconds_end_a_run_and_carry_the_schedule(command, tmp_path: Path) -> None:
    seconds = ["--budget.training-seconds", "2", "--schedule.follows", "training_seconds", "--log-every", "1"]
    train.main(command(tmp_path / "w", "--budget.steps", "None", *seconds))
    found = read_metrics(tmp_path / "w" / "metrics.jsonl")
    assert 2 <= found[-1]["training_seconds"] < 4
    logged = [line for line in found if "budget_fraction" in line]
    assert not any(isinstance(value, list) for line in found for value in line.values())
    for line in logged:
        assert line["budget_fraction"] <= line["training_seconds"] / 2 + 1e-3
        assert line["train/learning_rate"] == pytest.approx(
            1e-2 * min(line["budget_fraction"] / 0.06, (1 - line["budget_fraction"]) / 0.94), abs=1e-9
        )
    assert found[-1]["total_seconds"] > found[-1]["training_seconds"]


def lines_logged(workdir: Path) -> list[int]:
    return [line["step"] for line in read_metrics(workdir / "metrics.jsonl") if "train/loss" in line]


def wait_until(condition, seconds: float = 200) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it takes too long"
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize("size", [(2, 32, 16), (1, 16, 8)], ids=str)
def test_the_attention_window_of_every_update_follows_the_tokens_before_it(
    command, tmp_path: Path, size: tuple[int, int, int]
) -> None:
    """Whatever the size and the batch: it is the whole row of 32 after 4,096 tokens."""
    names = ("--model.num-layers", "--model.hidden-size", "--batch-size")
    options = [word for name, value in zip(names, size, strict=True) for word in (name, str(value))]
    options += ["--schedule.local-attention-tokens", "4096", "--budget.steps", "18", "--log-every", "1"]
    train.main(command(tmp_path / "w", *options, "--micro-batch", "None", "--schedule.warmup", "0"))
    windows = {
        line["tokens"] - size[2] * 32: line["train/attention_reach"]
        for line in lines(tmp_path / "w")
        if "tokens" in line
    }
    assert len(windows) == 18
    for tokens, window in windows.items():
        doublings = math.log2(32 / 3) * min(tokens / 4096, 1) ** 2
        assert window == math.floor(3 * 2**doublings + 1e-9), tokens


@pytest.mark.slow
def test_ctrl_c_on_a_terminal_saves_and_exits_75(command, tmp_path: Path) -> None:
    """Real processes: a person stops the run at its progress bar, SIGTERM stops it again, nothing is lost."""
    workdir = tmp_path / "w"
    arguments = ["-m", "tlc_jax.train", *command(workdir, "--budget.steps", "4000", "--log-every", "2")]
    terminal = pexpect.spawn(sys.executable, arguments, encoding="utf-8", timeout=100, dimensions=(40, 160))
    terminal.expect("compiling")
    terminal.expect("━")
    terminal.expect("perplexity")
    terminal.sendintr()
    terminal.expect(r"interrupted after step (\d+), saved; run the same command again to resume")
    stopped_at = int(terminal.match.group(1))
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert terminal.exitstatus == 75

    other = subprocess.run(
        [sys.executable, *arguments, "--model.num-layers", "3"], capture_output=True, text=True, check=False
    )
    assert other.returncode == 2
    assert other.stderr.startswith("error: --workdir")

    process = subprocess.Popen(
        [sys.executable, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    wait_until(lambda: lines_logged(workdir)[-1] >= stopped_at + 6)
    process.terminate()
    output, _ = process.communicate(timeout=100)
    assert process.returncode == 75, output
    assert f"resuming after step {stopped_at}" in output
    assert lines_logged(workdir) == list(range(2, lines_logged(workdir)[-1] + 1, 2)), "no gap, no repeat"


@pytest.mark.slow
def test_a_run_stops_as_soon_as_its_primary_metric_reaches_the_target(
    finished: Path, command, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Fewer nats per byte are better: the target is what the evaluation after step 6 finds, or one that a new
    model reaches before its first update. A run that has stopped has nothing left to do, and says why."""
    name, every = "eval/held_out/nats_per_byte", read_metrics(finished / "metrics.jsonl")
    target = next(line[name] for line in every if line["step"] == 6 and name in line)
    for workdir, stop_at, last in ((tmp_path / "w", target, 6), (tmp_path / "now", 1e3, 0)):
        for _ in range(2):
            train.main(command(workdir, "--evaluation.stop-at", str(stop_at)))
            found = read_metrics(workdir / "metrics.jsonl")
            assert found[-1]["step"] == last == whole_steps(workdir / "checkpoints")[-1]
            assert found[-1][name] <= stop_at
            reason = f"nats_per_byte has reached evaluation.stop_at {stop_at:g}"
            *_, ended, result, then = capsys.readouterr().out.splitlines()
            assert ended.endswith(f" in {workdir}: {reason}")
            assert re.match(
                r"held_out: nats_per_byte [\d.]+ \(two-sided bigram [\d.]+\), "
                r".*perplexity [\d.]+ \(two-sided bigram [\d.]+\)$",
                result,
            )
            assert then.startswith("next: python -m tlc_jax.train --config finetune_sst2 ")
        assert sum(name in line for line in found) == (2 if last else 1), "and one before the first update"
