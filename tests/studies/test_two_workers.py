"""Several processes work on one study: a killed one loses nothing, and the numbers are those of one alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tlc_jax.storage.run_directory import RunDir
from tlc_jax.studies.item_store import ItemStore, Result
from tlc_jax.studies.items import items_of
from tlc_jax.studies.study_record import read_config
from tlc_jax.training.metrics import read_metrics

pytestmark = pytest.mark.slow

CONFIG = """
from tlc_jax.config import *
from tlc_jax.config.study_options import StudyConfig

def get_config():
    train = Config(
        model=ModelConfig(head_size=8, vocab_size=300, max_positions=32),
        data=DataConfig(dir={corpus!r}, sequence_length=32, held_out=0.1, cache_dir={cache!r}),
        schedule=ScheduleConfig(follows="training_seconds", cooldown=0.0, warmup=0.0),
        budget=BudgetConfig(training_seconds=2.0),
        evaluation=EvaluationConfig(every_steps=50),
        checkpoint=CheckpointConfig(every_steps=25, marks="1/2"),
        batch_size=16,
        log_every=10,
    )
    return StudyConfig(train=train, sizes=("1x16",), seeds=(0, 1), bits=(4,), sparsities=(0.0,),
                       counted_in="steps")
"""
STEPS = 150
FIRST, SECOND = "1x16/seed0/trained", "1x16/seed1/trained"
Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture(scope="module")
def start(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Start:
    """Starts the study's command in a folder, in a process with one device."""
    root = tmp_path_factory.mktemp("workers")
    document = root / "tiny.py"
    document.write_text(CONFIG.format(corpus=str(corpus), cache=str(root / "cache")))
    flags = os.environ["XLA_FLAGS"].replace("device_count=8", "device_count=1")
    environment = {**os.environ, "XLA_FLAGS": flags}

    def started(
        workdir: Path, *more: str, program: tuple[str, ...] = ("-m", "tlc_jax.study")
    ) -> subprocess.Popen[bytes]:
        # sizes are timed by hand, so that both studies train for as many updates
        rows = [{"metric": "mean_seconds", "value": 2.0 / STEPS}]
        about = {"size": "1x16", "variant": ""}
        timing = Result(item="timing/1x16", stage="timing", fields=about, rows=rows, made={})
        command = [sys.executable, *program, "--config", str(document), *more]
        process = subprocess.Popen(
            [*command, "--workdir", str(workdir)], env=environment, stdout=subprocess.DEVNULL
        )
        wait_for(lambda: (workdir / "study.json").exists(), process)
        ItemStore(workdir).seal(timing)
        return process

    return started


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    while not condition():
        assert process.poll() is None, "it has ended too early"
        time.sleep(0.005)


def step_of(workdir: Path, name: str) -> int:
    metrics = RunDir(workdir / "runs" / name).metrics
    lines = read_metrics(metrics) if metrics.exists() else []
    return lines[-1]["step"] if lines else 0


def starts(workdir: Path, name: str) -> int:
    return len(json.loads((workdir / "runs" / name / "environment.json").read_text())["starts"])


def values(workdir: Path) -> dict[str, dict[str, Any]]:
    """All that is stored but when and where it was made."""
    return {
        result["item"]: {name: value for name, value in result.items() if name != "made"}
        for result in ItemStore(workdir).results()
    }


@pytest.fixture(scope="module")
def alone(start: Start, tmp_path_factory: pytest.TempPathFactory) -> Path:
    workdir = tmp_path_factory.mktemp("studies") / "alone"
    assert start(workdir).wait() == 0
    return workdir


def test_one_process_does_every_item(alone: Path) -> None:
    config = read_config(alone)
    assert config is not None
    assert set(values(alone)) == {item.name for item in items_of(config)}
    assert step_of(alone, FIRST) == STEPS
    assert step_of(alone, "1x16/seed1/at-1-2") == STEPS // 2


def test_a_worker_that_is_killed_is_replaced_and_no_number_changes(
    alone: Path, start: Start, tmp_path: Path
) -> None:
    workdir = tmp_path / "shared"
    first = start(workdir)
    wait_for(lambda: step_of(workdir, FIRST) > 0, first)
    second = start(workdir)
    wait_for(lambda: step_of(workdir, FIRST) >= 50, first)
    first.send_signal(signal.SIGKILL)
    first.wait()
    third = start(workdir)
    assert (second.wait(), third.wait()) == (0, 0)
    assert values(workdir) == values(alone)
    assert starts(workdir, FIRST) == 2, "it was resumed"
    assert [starts(workdir, name) for name in (SECOND, "1x16/seed0/at-1-2", "1x16/seed1/at-1-2")] == [1] * 3


KILLED = """
import os, signal, sys
from tlc_jax.core.entry_point import run_command
from tlc_jax.studies.item_store import ItemStore
from tlc_jax import study

seal = ItemStore.seal
def seal_or_die(self, result):
    if result["item"] == sys.argv[1]:
        os.kill(os.getpid(), signal.SIGKILL)
    return seal(self, result)

ItemStore.seal = seal_or_die
run_command(lambda: study.main(sys.argv[2:]))
"""


def test_what_a_process_has_trained_that_is_killed_before_a_result_is_stored_is_not_trained_again(
    alone: Path, start: Start, tmp_path: Path
) -> None:
    workdir, seed = tmp_path / "one", ("--seeds", "0")
    assert start(workdir, *seed, program=("-c", KILLED, FIRST)).wait() == -signal.SIGKILL
    assert not ItemStore(workdir).has(FIRST)
    metrics = RunDir(workdir / "runs" / FIRST).metrics
    before = read_metrics(metrics)
    assert before[-1]["step"] == STEPS
    assert start(workdir, *seed).wait() == 0
    assert read_metrics(metrics) == before, "with the times of the first process"
    expected = {name: value for name, value in values(alone).items() if "/seed1/" not in name}
    assert values(workdir) == expected


def test_workers_of_one_command_share_the_study(alone: Path, start: Start, tmp_path: Path) -> None:
    """The command is interrupted while both train, and run again."""
    workdir = tmp_path / "shared"
    command = start(workdir, "--workers", "2")
    wait_for(lambda: step_of(workdir, FIRST) > 0 and step_of(workdir, SECOND) > 0, command)
    command.send_signal(signal.SIGINT)
    assert command.wait() == 75, "run the same command again"
    assert not ItemStore(workdir).has(FIRST)
    assert start(workdir, "--workers", "2").wait() == 0
    assert values(workdir) == values(alone)
    assert starts(workdir, FIRST) == starts(workdir, SECOND) == 2
