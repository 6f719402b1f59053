"""A study whose runs take their data and write the metrics of a run, but are not trained."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from tests.builders import documents, write_tables
from tlc_jax import study
from tlc_jax.config import ClassificationConfig, CompressConfig, Config
from tlc_jax.core.errors import Interrupted
from tlc_jax.data import cache
from tlc_jax.runs.begin import Begin
from tlc_jax.storage.paths import copy_file
from tlc_jax.storage.run_directory import RunDir, write_json
from tlc_jax.studies.item_store import ItemStore, PackedScores, Row, pack_scores
from tlc_jax.tasks.kinds import kind_of
from tlc_jax.tasks.metric import ACCURACY

CONFIG = """
from tlc_jax.config import *
from tlc_jax.config.study_options import SearchConfig, StudyConfig

def get_config():
    data = dict(cache_dir={cache!r}, held_out=0.1)
    train = Config(
        model=ModelConfig(head_size=8, vocab_size=300, max_positions=32),
        data=DataConfig(dir={text!r}, sequence_length=32, **data),
        schedule=ScheduleConfig(follows="training_seconds"),
        budget=BudgetConfig(training_seconds=1),
    )
    finetune = Config(
        task=ClassificationConfig(),
        data=DataConfig(dir={tables!r}, sequence_length=16, **data),
        budget=BudgetConfig(steps=4),
        batch_size=16,
    )
    return StudyConfig(
        train=train,
        finetune=finetune,
        search=SearchConfig(seeds=(1, 2)),
        sizes=("1x16", "2x16"), bits=(32, 4), sparsities=(0.0, 0.5),
    )
"""
FIRST, SECOND = "1x16/seed0/", "2x16/seed0/"
COMBINATION = "lr0.0015-batch16-dropout0.1"


class Folder:
    """A study whose runs are not trained; it is interrupted before the run that is named."""

    def __init__(self, root: Path, cache_dir: Path):
        self.root, self.trained = root, list[str]()
        self.workdir: Any = root / "study"
        self.configs: dict[str, Config] = {}
        self.measured: list[tuple[int, float]] = []
        self.interrupted = ""
        (root / "text").mkdir()
        (root / "text" / "a.txt").write_text("\n\n".join(documents(60)), encoding="utf-8")
        write_tables(root / "tables", 120)
        names = {name: str(root / name) for name in ("text", "tables")}
        self.document = root / "tiny.py"
        self.document.write_text(CONFIG.format(**names, cache=str(cache_dir)), encoding="utf-8")

    def resume(self, *more: str) -> list[str]:
        """The runs that are trained now, of a study that is named by its folder alone."""
        self._begin()
        study.main(["--workdir", str(self.workdir), *more])
        return list(self.trained)

    def go(self, stop_before: str = "", *more: str) -> list[str]:
        """The runs that are trained now."""
        self._begin(stop_before)
        command = ["--config", str(self.document), "--workdir", str(self.workdir), *more]
        if stop_before:
            with pytest.raises(Interrupted):
                study.main(command)
        else:
            study.main(command)
        return list(self.trained)

    def _begin(self, stop_before: str = "") -> None:
        self.trained.clear()
        self.measured.clear()
        self.interrupted = stop_before

    def train_run(self, config: Config, workdir: Path, begin: Begin, console: Console, *, title: str) -> None:
        """Stands in for the function of this name."""
        if self.interrupted and self.interrupted in title:
            raise Interrupted(title)
        self.trained.append(title)
        self.configs[title] = config = begin.resolve(config)
        workdir.mkdir(parents=True, exist_ok=True)
        rundir = RunDir(workdir)
        write_json(rundir.config, dataclasses.asdict(config))
        if not rundir.data.exists():
            source = begin.data_from
            kind = kind_of(config)
            if source is None:
                data = kind.prepare(config, console, pretrained=begin.pretrained)
            else:
                data = kind.open(config, source.data)
            cache.keep(data, rundir.data)
        copy_file(rundir.data / "tokenizer.json", rundir.tokenizer)
        number = len(title) + sum(map(ord, title))
        steps = config.budget.steps or 4
        evaluated = [{"held_out/nats_per_byte": 1.5}, {"held_out/nats_per_byte": 1 + 1 / number}]
        if isinstance(config.task, ClassificationConfig):
            evaluated = [
                {"tuning/majority_accuracy": 0.5},
                {"tuning/accuracy": 0.5, "tuning/loss": 1 / number},
            ]
        steps_of_lines = (0, steps)
        if config.checkpoint.best:  # after half of the updates, as its last evaluation says
            better = {"tuning/accuracy": 0.75, "tuning/loss": 0.5}
            evaluated.insert(1, better)
            evaluated[-1] = {"tuning/accuracy": 0.625, "tuning/loss": 0.75}
            steps_of_lines = (0, steps // 2, steps)
        lines = [
            {"step": step, "training_seconds": seconds, "total_seconds": seconds}
            | {f"eval/{name}": value for name, value in values.items()}
            for step, values in zip(steps_of_lines, evaluated, strict=True)
            for seconds in [step / steps]
        ]
        if config.checkpoint.best:
            for line, best in zip(lines, (0, steps // 2, steps // 2), strict=True):
                line["best_step"] = best
        rundir.metrics.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")

    def measurer(self, *_: object) -> Measurer:
        """Stands in for CompressedMeasurer."""
        return Measurer(self.measured)

    @property
    def store(self) -> ItemStore:
        return ItemStore(self.workdir)

    def files(self) -> dict[str, bytes]:
        """The content of each result."""
        return {
            str(path.relative_to(self.workdir / "items")): path.read_bytes()
            for path in sorted((self.workdir / "items").rglob("*.json"))
        }

    def change_table(self) -> None:
        """Change the first label of the finetuning data."""
        path = self.root / "tables" / "train.tsv"
        header, rest = path.read_text(encoding="utf-8").split("\n", 1)
        path.write_text(f"{header}\nchanged {rest}", encoding="utf-8")

    def change_text(self) -> None:
        with (self.root / "text" / "a.txt").open("a", encoding="utf-8") as file:
            file.write("\n\nOne document more.\n")

    def edit(self, name: str, change: Callable[[dict[str, Any]], object]) -> None:
        """Change a result as somebody with an editor would."""
        path = self.store.path(name)
        document = json.loads(path.read_text(encoding="utf-8"))
        change(document)
        path.write_text(json.dumps(document), encoding="utf-8")


class Measurer:
    """Accuracies of 8 examples, of which half are right."""

    metric = ACCURACY

    def __init__(self, measured: list[tuple[int, float]]):
        self._measured = measured

    def __call__(self, config: CompressConfig) -> tuple[list[Row], dict[str, PackedScores]]:
        self._measured.append((config.bits, config.sparsity))
        about = {"step": 4, "file_bytes": 1000 * config.bits, "metric": "accuracy", "value": 0.5}
        rows = [{**about, "set": name, "role": name} for name in ("tuning", "reported")]
        scores = pack_scores((np.arange(8) < 4) * 1.0, np.ones(8))
        return rows, {"tuning": scores, "reported": scores}
