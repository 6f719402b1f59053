"""Timings of a study that counts updates: the seconds of an update of each size, measured before anything is
trained (paper 2.2), and again where the program of an update has changed since.

A training is counted by the timing of the program that it begins with, and keeps that timing when it is
resumed by another version. The device is no part of this: an update is timed on one device, and a training
counts as many updates wherever it runs.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from tlc_jax.config import Config, StudyConfig
from tlc_jax.runs.step_program import program_of
from tlc_jax.runs.step_time import measure_in_turns
from tlc_jax.runs.teacher import with_network_of
from tlc_jax.studies.item_store import ItemStore, Result, Row
from tlc_jax.studies.items import Item, distillation_of, items_of, timed_variant, timing_of
from tlc_jax.studies.made import made
from tlc_jax.studies.statistics import interval
from tlc_jax.studies.study_folder import StudyFolder

_COUNTED = ("train", "distil")
UNSURE = 0.05
"""The half width of the interval of a ratio, as a share of it, from which it is said to be unsure."""
_OF = "@"  # between the names of a timing and of the program that it measures


def time_update(item: Item, study: StudyFolder) -> Result:
    """Measure the seconds of an update of a size (paper 2.2).

    The first item that is timed is the reference of the study: all others are timed in turns with it, and
    their seconds are its seconds times the ratio. So equal time does not depend on how fast the machine
    happened to be when each size was timed."""
    update, reference = _timed(item, study), _reference(item, study)
    fields = {**item.fields, "program": program_of(*update)}
    if reference is None:
        [timing] = measure_in_turns([_pair(*update)], study.console)
    else:
        both = [_pair(*_timed(reference.item, study)), _pair(*update)]
        first, timing = measure_in_turns(both, study.console, enough=sure)
        ratio = ratio_of_turns(timing["turn_seconds"], first["turn_seconds"])
        seconds = ratio["ratio"] * seconds_of_step(reference.timing)
        timing = {**timing, **ratio, "measured_seconds": timing["mean_seconds"], "mean_seconds": seconds}
        fields["reference"] = reference.timing["item"]
        study.console.print(_sentence(item, reference.item, **ratio))
    numbers = {name: value for name, value in timing.items() if isinstance(value, int | float)}
    rows: list[Row] = [{"metric": name, "value": value} for name, value in numbers.items()]
    return Result(item=item.name, stage=item.stage, fields=fields, rows=rows, made=made())


@dataclasses.dataclass(frozen=True)
class _Reference:
    item: Item
    timing: Result


def _reference(item: Item, study: StudyFolder) -> _Reference | None:
    """The first item of which the present program was timed by itself, with that timing; None if there is
    none."""
    for other in items_of(study.config):
        if other.stage == "timing" and item.name.partition(_OF)[0] != other.name:
            by_itself = [
                each for each in _timings(other.name, study.store) if "reference" not in each["fields"]
            ]
            timing = _of_program(by_itself, program_of(*_timed(other, study))) if by_itself else None
            if timing is not None:
                return _Reference(other, timing)
    return None


def ratio_of_turns(turns: Sequence[float], reference: Sequence[float]) -> dict[str, float]:
    """How often the seconds of the reference those of another update are, from the means of turns, and the
    interval of 95 % (Student's t over the logarithms of the ratios)."""
    logs = np.log(np.asarray(turns) / np.asarray(reference))
    low, high = interval(logs) or (-math.inf, math.inf)
    return {"ratio": math.exp(logs.mean()), "ratio_low": math.exp(low), "ratio_high": math.exp(high)}


def sure(means: Sequence[Sequence[float]]) -> bool:
    """Whether the ratio of the seconds of the second update to those of the first, from the means of their
    turns, is known to 5 %."""
    reference, turns = means
    ratio = ratio_of_turns(turns, reference)
    return ratio["ratio_high"] <= (1 + UNSURE) * ratio["ratio"]


def _sentence(item: Item, reference: Item, ratio: float, ratio_low: float, ratio_high: float) -> str:
    model, other = (each.name.partition("/")[2] for each in (item, reference))
    numbers = f"{ratio:.3g} [{ratio_low:.3g}, {ratio_high:.3g}]"
    unsure = ": is the machine busy?" if ratio_high > (1 + UNSURE) * ratio else ""
    return f"{model}: an update takes {numbers} times as long as one of {other}{unsure}"


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


def _pair(config: Config, teacher: Config | None = None) -> tuple[Config, Config | None]:
    return config, teacher


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
