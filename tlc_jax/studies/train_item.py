"""Training items of a study: the config of each run, its data, its training, and the rows that come of it."""

from __future__ import annotations

import dataclasses
from typing import Any

from tlc_jax.config import Config
from tlc_jax.config.marks import BEST, parse_mark
from tlc_jax.core import tree
from tlc_jax.runs.begin import Begin, Branch, Fresh, InitFrom
from tlc_jax.runs.train_run import train_run
from tlc_jax.storage.run_directory import RunDir
from tlc_jax.studies.finished_run import EVALUATED, evaluations
from tlc_jax.studies.item_store import Result, Row, StageData
from tlc_jax.studies.items import Item
from tlc_jax.studies.made import made
from tlc_jax.studies.measured import primary_fields
from tlc_jax.studies.pretrained_item import given_checkpoint
from tlc_jax.studies.same_data import run_data
from tlc_jax.studies.study_folder import StudyFolder
from tlc_jax.studies.timings import counted, seconds_of_step, timing_of_run, training_config
from tlc_jax.tasks.kinds import kind_of
from tlc_jax.training.state import abstract_params

_OF_THE_RUN = ("step", "training_seconds", "tokens", "training_loss", "flops", "electra_flops")


def train_item(item: Item, study: StudyFolder) -> Result:
    """Train the run of an item, or resume it, and read its rows. UserError where it would not use the data of
    the study's other runs."""
    stage = "finetune" if item.stage == "finetune" else "train"
    timing = timing_of_run(item, study)
    config, begin = _beginning(item, study)
    if timing is not None and item.stage in ("train", "distil"):
        config = counted(config, timing)
    rundir = study.run(item.name)
    if item.stage != "branch" and run_data(rundir.root) is None:
        data_from = study.same_data.prepare(stage, config, begin, study.console)
        begin = dataclasses.replace(begin, data_from=data_from)
    train_run(config, rundir.root, begin, study.console, title=item.name)
    study.same_data.meet_run(stage, rundir.root)
    begun = item.stage in ("branch", "finetune")
    data = {**(study.store.result(item.needs[-1]).get("data", {}) if begun else {})}
    if (trained_on := run_data(rundir.root)) is not None:
        data[stage] = trained_on
    result = _result(item, rundir, timing, data)
    if item.stage == "distil":
        result["fields"]["teacher_seconds"] = _seconds(study.store.result(item.needs[-1]))
    return result


def _seconds(result: Result) -> float:
    """Training seconds of a finished run."""
    return float(result["rows"][-1]["training_seconds"])


def _beginning(item: Item, study: StudyFolder) -> tuple[Config, Begin]:
    """The config of a run, and how it begins."""
    fields = item.fields
    if item.stage == "finetune":
        seeds = study.config.finetunings()[str(fields["combination"])]
        config = seeds[f"seed{fields['finetuning_seed']}"]
        given = given_checkpoint(item, study)
        return config, given or InitFrom(str(study.run(item.needs[-1]).root))
    config = training_config(item, study.config)
    if item.stage == "branch":
        return config, Branch(study.run(item.needs[-1]), parse_mark(str(fields["mark"])))
    if item.stage == "distil":
        distil = dataclasses.replace(config.distil, teacher=str(study.run(item.needs[-1]).root))
        config = dataclasses.replace(config, distil=distil)
    return config, Fresh()


def _result(item: Item, rundir: RunDir, timing: Result | None, data: dict[str, StageData]) -> Result:
    """The evaluations of a finished run, of which the `last` is that of the parameters that are kept;
    `training_seconds` are steps x the seconds of a `timing`, which is named in all rows, where there is
    one."""
    config = rundir.read_config()
    kind = kind_of(config)
    task = kind.task(config, kind.open(config, rundir.data))
    about_model = {"parameters": tree.count(abstract_params(task)), "tokens_per_step": task.tokens_per_step}
    lines = evaluations(rundir)
    if item.stage == "branch":  # its other lines are those of its trunk
        lines = [lines[0], lines[-1]]
    kept, kept_run = _kept(item, config, lines)
    rows: list[Row] = []
    for line in lines:
        about: dict[str, Any] = {name: line[name] for name in _OF_THE_RUN if name in line}
        about |= {"epoch": task.epochs(line["step"]), **about_model, **kept_run}
        if timing is not None:
            about["training_seconds"] = line["step"] * seconds_of_step(timing)
        about["last"] = line is kept
        for key, value in line.items():
            if key.startswith(EVALUATED):
                name, metric = key.removeprefix(EVALUATED).split("/", 1)
                rows.append({**about, "set": name, "metric": metric, "value": value})
    fields = {**item.fields, **primary_fields(task.primary_metric)}
    if timing is not None:
        fields["timing"] = timing["item"]
    return Result(item=item.name, stage=item.stage, fields=fields, rows=rows, made=made(), data=data)


def _kept(item: Item, config: Config, lines: list[dict[str, Any]]) -> tuple[dict[str, Any], dict[str, str]]:
    """The evaluation of what is kept of a run, and the reference of that, where it is not the end: a
    finetuning with checkpoint.best keeps its best evaluation by the primary metric on the tuning set."""
    if item.stage != "finetune" or not config.checkpoint.best:
        return lines[-1], {}
    best = [line for line in lines if "best_step" in line and line["step"] == lines[-1]["best_step"]]
    return best[-1], {"kept_run": f"{item.name}@{BEST}"}
