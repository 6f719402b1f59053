"""Training items of a study: the config of each run, its data, its training, and the rows that come of it."""

from __future__ import annotations

import dataclasses
from typing import Any

from tlc_jax.config import Config
from tlc_jax.config.marks import parse_mark
from tlc_jax.core import tree
from tlc_jax.runs.begin import Begin, Branch, Fresh, InitFrom
from tlc_jax.runs.step_time import measure_step_time
from tlc_jax.runs.train_run import train_run
from tlc_jax.storage.run_directory import RunDir
from tlc_jax.studies.finished_run import EVALUATED, evaluations
from tlc_jax.studies.item_store import Result, Row, StageData
from tlc_jax.studies.items import Item, timing_of
from tlc_jax.studies.made import made
from tlc_jax.studies.measured import primary_fields
from tlc_jax.studies.same_data import run_data
from tlc_jax.studies.study_folder import StudyFolder
from tlc_jax.tasks.kinds import kind_of
from tlc_jax.training.state import abstract_params

_OF_THE_RUN = ("step", "training_seconds", "tokens", "epoch", "flops", "electra_flops")


def time_update(item: Item, study: StudyFolder) -> Result:
    """Measure the seconds of an update of a size (paper 2.2)."""
    config = study.config.train_of(str(item.fields["size"]), str(item.fields["variant"]))
    timing = measure_step_time(config, study.console)
    numbers = {name: value for name, value in timing.items() if isinstance(value, int | float)}
    rows: list[Row] = [{"metric": name, "value": value} for name, value in numbers.items()]
    return Result(item=item.name, stage=item.stage, fields=item.fields, rows=rows, made=made())


def train_item(item: Item, study: StudyFolder) -> Result:
    """Train the run of an item, or resume it, and read its rows. UserError where it would not use the data of
    the study's other runs."""
    stage = "finetune" if item.stage == "finetune" else "train"
    config, begin, source = _beginning(item, study)
    rundir = study.run(item.name)
    if item.stage != "branch" and run_data(rundir.root) is None:
        data_from = study.same_data.prepare(stage, config, source, study.console)
        begin = dataclasses.replace(begin, data_from=data_from)
    train_run(config, rundir.root, begin, study.console, title=item.name)
    study.same_data.meet_run(stage, rundir.root)
    data = {**(study.store.result(item.needs[-1]).get("data", {}) if source else {})}
    if (trained_on := run_data(rundir.root)) is not None:
        data[stage] = trained_on
    return _result(item, rundir, seconds_of_step(item, study), data)


def _beginning(item: Item, study: StudyFolder) -> tuple[Config, Begin, RunDir | None]:
    """The config of a run, how it begins, and the run that it begins from."""
    fields = item.fields
    config = study.config.train_of(str(fields["size"]), str(fields["variant"]), int(fields["seed"]))
    if item.stage == "train":
        return _counted(config, item, study), Fresh(), None
    source = study.run(item.needs[-1])
    if item.stage == "branch":
        return config, Branch(source, parse_mark(str(fields["mark"]))), source
    seeds = study.config.finetunings()[str(fields["combination"])]
    return seeds[f"seed{fields['finetuning_seed']}"], InitFrom(str(source.root)), source


def _counted(config: Config, item: Item, study: StudyFolder) -> Config:
    """The config with its seconds as a number of updates, where the study counts in steps."""
    seconds = seconds_of_step(item, study)
    if seconds is None:
        return config
    assert config.budget.training_seconds is not None
    steps = max(1, round(config.budget.training_seconds / seconds))
    budget = dataclasses.replace(config.budget, steps=steps, training_seconds=None)
    schedule = dataclasses.replace(config.schedule, follows="steps")
    return dataclasses.replace(config, budget=budget, schedule=schedule)


def seconds_of_step(item: Item, study: StudyFolder) -> float | None:
    """The measured seconds of an update, where the study counts in steps."""
    if study.config.counted_in != "steps":
        return None
    rows = study.store.result(timing_of(item))["rows"]
    return next(float(row["value"]) for row in rows if row["metric"] == "mean_seconds")


def _result(item: Item, rundir: RunDir, seconds: float | None, data: dict[str, StageData]) -> Result:
    """The evaluations of a finished run; `training_seconds` are steps x measured seconds where there are."""
    config = rundir.read_config()
    kind = kind_of(config)
    task = kind.task(config, kind.open(config, rundir.data))
    about_model = {"parameters": tree.count(abstract_params(task)), "tokens_per_step": task.tokens_per_step}
    lines = evaluations(rundir)
    if item.stage == "branch":  # its other lines are those of its trunk
        lines = [lines[0], lines[-1]]
    rows: list[Row] = []
    for line in lines:
        about: dict[str, Any] = {name: line[name] for name in _OF_THE_RUN if name in line}
        about |= about_model
        if seconds is not None:
            about["training_seconds"] = line["step"] * seconds
        about["last"] = line is lines[-1]
        for key, value in line.items():
            if key.startswith(EVALUATED):
                name, metric = key.removeprefix(EVALUATED).split("/", 1)
                rows.append({**about, "set": name, "metric": metric, "value": value})
    fields = {**item.fields, **primary_fields(task.primary_metric)}
    return Result(item=item.name, stage=item.stage, fields=fields, rows=rows, made=made(), data=data)
