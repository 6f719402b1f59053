"""A study whose runs take their data and write the metrics of one, but are not trained."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from tests.builders import documents, write_tables
from tlc_jax import study
from tlc_jax.config import CompressConfig, Config
from tlc_jax.core.errors import Interrupted
from tlc_jax.data import cache
from tlc_jax.runs.begin import Begin
from tlc_jax.storage.run_directory import RunDir, write_json
from tlc_jax.studies.frontier import pack
from tlc_jax.tasks.kinds import kind_of

CONFIG = """
from tlc_jax.config import *
from tlc_jax.config.study_options import SearchConfig, StudyConfig

def get_config():
    data = dict(cache_dir={cache!r}, held_out=0.1)
    return StudyConfig(
        pretrain=Config(
            model=ModelConfig(head_size=8, vocab_size=300, max_positions=32),
            data=DataConfig(dir={text!r}, sequence_length=32, **data),
            schedule=ScheduleConfig(follows="training_seconds"),
            budget=BudgetConfig(training_seconds=1),
        ),
        finetune=Config(
            task=ClassificationConfig(),
            data=DataConfig(dir={tables!r}, sequence_length=16, **data),
            budget=BudgetConfig(steps=4),
        ),
        search=SearchConfig(seeds=(1, 2)),
        sizes=("1x16", "2x16"), bits=(32, 4), sparsities=(0.0, 0.5),
    )
"""


class Folder:
    """A study whose runs are not trained; it is interrupted before the runs that are named."""

    def __init__(self, root: Path):
        self.root, self.workdir, self.trained = root, root / "study", list[str]()
        self.interrupted = ""
        (root / "text").mkdir()
        (root / "text" / "a.txt").write_text("\n\n".join(documents(60)), encoding="utf-8")
        write_tables(root / "tables", 120)
        names = {name: str(root / name) for name in ("text", "tables", "cache")}
        (root / "tiny.py").write_text(CONFIG.format(**names), encoding="utf-8")

    def go_on(self, *more: str) -> list[str]:
        """Which runs were trained now, of a study that is named by its folder alone."""
        self.trained.clear()
        self.interrupted = ""
        study.main(["--workdir", str(self.workdir), *more])
        return list(self.trained)

    def go(self, stop_before: str = "", *more: str) -> list[str]:
        """Which runs were trained now."""
        self.trained.clear()
        self.interrupted = stop_before
        command = ["--config", str(self.root / "tiny.py"), "--workdir", str(self.workdir), *more]
        if stop_before:
            with pytest.raises(Interrupted):
                study.main(command)
        else:
            study.main(command)
        return list(self.trained)

    def train_run(self, config: Config, workdir: Path, begin: Begin, console: Console, *, title: str) -> None:
        name = f"{workdir.parent.name}/{workdir.name}"
        if self.interrupted and self.interrupted in name:
            raise Interrupted(name)
        self.trained.append(name)
        config = begin.resolve(config)
        workdir.mkdir(parents=True, exist_ok=True)
        rundir = RunDir(workdir)
        write_json(rundir.config, dataclasses.asdict(config))
        if not rundir.data.exists():
            source = begin.data_from
            kind = kind_of(config)
            data = kind.prepare(config, console) if source is None else kind.open(config, source.data)
            cache.keep(data, rundir.data)
        shutil.copy(Path(str(rundir.data)) / "tokenizer.json", str(rundir.tokenizer))
        number = len(name) + sum(map(ord, name))
        lines = [
            {"step": 0, "training_seconds": 0.0, "total_seconds": 0.0}
            | {f"eval/held_out/{n}_perplexity": 90.0 for n in ("unigram", "bigram")},
            {
                "step": 4,
                "training_seconds": 1.0 + number / 7,
                "total_seconds": 9.0,
                "eval/held_out/perplexity": 9.0,
            }
            | {"eval/tuning/accuracy": 0.5, "eval/tuning/loss": 1 / number},
        ]
        rundir.metrics.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")

    def lines(self) -> list[dict[str, Any]]:
        text = (self.workdir / "results.jsonl").read_text(encoding="utf-8")
        return [json.loads(line) for line in text.splitlines()]

    def write(self, change: Callable[[list[dict[str, Any]]], object]) -> None:
        """As somebody with an editor would."""
        lines = self.lines()
        change(lines)
        text = "".join(f"{json.dumps(line)}\n" for line in lines)
        (self.workdir / "results.jsonl").write_text(text, encoding="utf-8")

    def run_of(self, size: str) -> Path:
        [folder] = (self.workdir / size).glob("lr*-seed1")
        return folder

    def forget(self) -> None:
        """As a study of a version left it that stored no identities, no checksums and no metric's name."""
        names = ("data", "sha256", "metric", "higher_is_better")
        self.write(lambda lines: [line.pop(name, None) for line in lines for name in names])
        (self.workdir / "data.json").unlink(missing_ok=True)


def measured(
    reference: str, compressions: list[CompressConfig], title: str, console: Console
) -> Iterator[dict[str, Any]]:
    """Lines as versions wrote them that knew only accuracies and the paper's size."""
    for config in compressions:
        yield {
            "sparsity": config.sparsity,
            "bits": config.bits,
            "tuning_accuracy": 0.5,
            "set": "test",
            "examples": 8,
            "accuracy": 0.5,
            "correct": pack(np.arange(8) < 4),
            "paper_bytes": 100.0 * config.bits,
            "parameters": 100,
            "nonzeros": 100,
            "step": 4,
            "majority_accuracy": 0.5,
            "linear_accuracy": 0.75,
        }
