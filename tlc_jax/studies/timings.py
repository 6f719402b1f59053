"""Timings of a study that counts updates: the seconds of an update of each size, measured before anything is
trained (paper 2.2), and again where the program of an update has changed since.

A training is counted by the timing of the program that it begins with, and keeps that timing when it is
resumed by another version. The device is no part of this: an update is timed on one device, and a training
counts as many updates wherever it runs.
"""

from __future__ import annotations

import dataclasses

from tlc_jax.config import Config, StudyConfig
from tlc_jax.runs.step_program import program_of
from tlc_jax.runs.step_time import measure_step_time
from tlc_jax.runs.teacher import with_network_of
from tlc_jax.studies.item_store import ItemStore, Result, Row
from tlc_jax.studies.items import Item, distillation_of, timed_variant, timing_of
from tlc_jax.studies.made import made
from tlc_jax.studies.study_folder import StudyFolder

_COUNTED = ("train", "distil")
_OF = "@"  # between the names of a timing and of the program that it measures


def time_update(item: Item, study: StudyFolder) -> Result:
    """Measure the seconds of an update of a size (paper 2.2)."""
    config, *teacher = _timed(item, study)
    timing = measure_step_time(config, study.console, *teacher)
    numbers = {name: value for name, value in timing.items() if isinstance(value, int | float)}
    rows: list[Row] = [{"metric": name, "value": value} for name, value in numbers.items()]
    fields = {**item.fields, "program": program_of(config, *teacher)}
    return Result(item=item.name, stage=item.stage, fields=fields, rows=rows, made=made())


def timings_to_repeat(items: list[Item], study: StudyFolder) -> list[Item]:
    """Items that time sizes again whose program is no longer one that was timed, as far as a training of them
    is still to begin."""
    if study.config.counted_in != "steps":
        return []
    finished, repeated = study.store.finished(), dict[str, Item | None]()
    for item in items:
        first = timing_of(item) if item.stage in _COUNTED else ""
        if not first or first in repeated or first not in finished:
            continue
        if item.name in finished or study.run(item.name).config.exists():
            continue
        program = program_of(*_timed(item, study))
        known = _of_program(_timings(first, study.store), program)
        timing = next(each for each in items if each.name == first)
        repeated[first] = None if known else dataclasses.replace(timing, name=f"{first}{_OF}{program}")
    return [item for item in repeated.values() if item is not None]


def timing_of_run(item: Item, study: StudyFolder) -> Result | None:
    """The timing by which a training, or the trunk of a branch, is counted; None where seconds of the clock
    are."""
    if study.config.counted_in != "steps" or item.stage not in (*_COUNTED, "branch"):
        return None
    timings, rundir = _timings(timing_of(item), study.store), study.run(item.name)
    if item.stage == "branch":
        trunk = study.store.result(item.needs[-1])["fields"].get("timing")
        return next((timing for timing in timings if timing["item"] == trunk), timings[0])
    if rundir.config.exists():  # it has begun, perhaps with another program
        config = training_config(item, study.config)
        steps = rundir.read_config().budget.steps
        return next((each for each in timings if counted(config, each).budget.steps == steps), timings[0])
    return _of_program(timings, program_of(*_timed(item, study))) or timings[0]


def training_config(item: Item, config: StudyConfig) -> Config:
    """The config of a training, with its budget in seconds."""
    fields = item.fields
    seed = int(fields["seed"])
    if item.stage == "distil":
        return config.student_of(distillation_of(item), seed)
    return config.train_of(str(fields["size"]), str(fields["variant"]), seed)


def _timed(item: Item, study: StudyFolder) -> tuple[Config, ...]:
    """The config whose update is timed for an item, and that of its teacher, if it has one."""
    fields = item.fields
    if "teacher" not in fields:
        return (study.config.train_of(str(fields["size"]), timed_variant(str(fields["variant"]))),)
    config, teacher = study.config.train_of(str(fields["size"])), str(fields["teacher"])
    return config, with_network_of(study.config.train_of(teacher), config, teacher)


def counted(config: Config, timing: Result) -> Config:
    """The config with its seconds as a number of updates."""
    assert config.budget.training_seconds is not None
    steps = max(1, round(config.budget.training_seconds / seconds_of_step(timing)))
    budget = dataclasses.replace(config.budget, steps=steps, training_seconds=None)
    schedule = dataclasses.replace(config.schedule, follows="steps")
    return dataclasses.replace(config, budget=budget, schedule=schedule)


def seconds_of_step(timing: Result) -> float:
    """The measured mean of the seconds of an update."""
    return next(float(row["value"]) for row in timing["rows"] if row["metric"] == "mean_seconds")


def _timings(first: str, store: ItemStore) -> list[Result]:
    """The finished timings of a size, the one without a name of its program first."""
    names = [name for name in store.finished() if name == first or name.startswith(f"{first}{_OF}")]
    return [store.result(name) for name in sorted(names)]


def _of_program(timings: list[Result], program: str) -> Result | None:
    """The timing of a program; else one that does not say which program it measured, as older versions left
    it."""
    by_program = {timing["fields"].get("program"): timing for timing in reversed(timings)}
    return by_program.get(program) or by_program.get(None)
