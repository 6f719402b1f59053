"""A study as a part of the page."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from tlc_jax.config.study_options import StudyConfig
from tlc_jax.core.printable import printable
from tlc_jax.storage.paths import AnyPath
from tlc_jax.storage.run_directory import RunDir
from tlc_jax.studies.as_many_bytes import no_larger
from tlc_jax.studies.compressed_models import DENSE
from tlc_jax.studies.how_made import config_of
from tlc_jax.studies.item_store import ItemStore
from tlc_jax.studies.items import items_of
from tlc_jax.studies.measured import Measured, metric_of
from tlc_jax.studies.model_files import ModelFile
from tlc_jax.studies.page.budget_choices import (
    Candidate,
    Choice,
    Time,
    choices_of,
    is_whole,
    name_of,
    times_of,
)
from tlc_jax.studies.page.learning_points import (
    Training,
    axes_of_trainings,
    thinned,
    training_of_run,
    trainings_of_study,
)
from tlc_jax.studies.page.page_schema import (
    ChoiceData,
    CurveData,
    DenseData,
    FileData,
    Part,
    Stop,
    columns_of,
)
from tlc_jax.studies.page.page_words import duration, file_size, logarithmic, metric_words, typeset
from tlc_jax.studies.statistics import interval
from tlc_jax.studies.study_command import nearest_document, study_command
from tlc_jax.studies.training_curve import AXES
from tlc_jax.tasks.metric import Metric


class Commands:
    """The commands that make single models of a study again, each once."""

    def __init__(self, config: StudyConfig):
        self._config, self._document = config, nearest_document(config)
        self.numbers: dict[str, int] = {}

    def dense(self, model: str, seeds: Sequence[int]) -> int:
        """The number of the command for the trainings of a model, which are not compressed."""
        return self._number(model, seeds, bits=(DENSE,), sparsities=(0.0,))

    def file(self, file: ModelFile) -> int:
        """The number of the command for a compressed model."""
        _, _, _, bits, sparsity, _, as_long_as = file.tuning.key
        sparsities = tuple(dict.fromkeys((0.0, float(as_long_as or sparsity))))
        return self._number(file.size, _seeds(file.tuning), bits=(int(bits),), sparsities=sparsities)

    def _number(self, model: str, seeds: Sequence[int], **options: Any) -> int:
        size, _, variant = model.partition(" ")
        if given := [each for each in self._config.given if each.size == size]:
            search = replace(self._config.search, seeds=tuple(seeds) or self._config.search.seeds)
            options |= {"pretrained": tuple(map(str, given)), "search": search}
        else:
            options |= {"sizes": (size,), "oversized": (), "variants": (variant,)}
            options |= {"distillations": (), "memory_of": (), "seeds": tuple(seeds) or self._config.seeds}
        config = replace(self._config, **options)
        return self.numbers.setdefault(study_command(config, self._document), len(self.numbers))


def study_part(study: AnyPath, links: dict[str, str], most: int) -> tuple[Part, list[Training]]:
    """The part of a study, with so many points of curves at most, and all of its trainings. `links` lead to
    run directories, by their names."""
    store, config = ItemStore(study), config_of(study)
    times = times_of(store)
    trainings = [*trainings_of_study(store), *_running(study, config, store)]
    models = _models(times, trainings)
    commands = Commands(config)
    parameters = {row["size"]: float(row["parameters"]) for row in store.rows() if "parameters" in row}
    axes = axes_of_trainings(trainings)
    candidates = [candidate for time in times for candidate in time.files]
    choices = [choices_of(time) for time in times]
    limits = _limits(choices)
    metric, on = _trained_on(times, trainings)
    shown = sorted(candidates, key=lambda each: each.estimated)
    reported = shown[0].file.reported.rows[0] if shown else {}
    gates = [(each.gate, each.gate_name) for each in trainings if each.gate is not None]
    part: Part = {
        "name": printable(study.name.replace("_", " ")),
        "models": [printable(model) for model in models],
        "commands": [],
        "axes": [(axis, AXES[axis]) for axis in axes],
        "metric": metric_words(metric.name),
        "higher_is_better": metric.higher_is_better,
        "logarithmic": logarithmic(metric.name),
        "trained_on": printable(on),
        "files_on": printable(reported.get("set", "")),
        "files_metric": metric_words(str(reported.get("metric", ""))),
        "estimates": _estimates(shown, str(reported.get("set", ""))),
        "gate": gates[0][0] if gates else None,
        "gate_name": gates[0][1] if gates else "",
        "files_gate": reported.get("gate"),
        "curves": [
            _curve(each, axes, models, commands, links) for each in thinned(trainings, most) if each.points
        ],
        "dense": [
            _dense(model, number, models, parameters, commands)
            for number, time in enumerate(times)
            for model in time.dense
        ],
        "files": columns_of(_files(times, models, commands)),
        "times": [_time_stop(time) for time in times],
        "limits": limits,
        "choices": [
            _choices(time, each, models, candidates) for time, each in zip(times, choices, strict=True)
        ],
        "start": (max(0, len(times) - 1), _start(times, limits)),
    }
    part["commands"] = list(commands.numbers)
    return part, trainings


def _running(study: AnyPath, config: StudyConfig, store: ItemStore) -> list[Training]:
    """The trainings that have begun and are not finished, with the evaluations so far."""
    running = list[Training]()
    for item in items_of(config):
        rundir = RunDir(study / "runs" / item.name)
        if item.stage == "train" and not store.has(item.name) and rundir.metrics.exists():
            model = f"{item.fields['size']} {item.fields['variant']}".strip()
            training = training_of_run(rundir, item.name)
            label = f"{model}, seed {item.fields['seed']}, running"
            running.append(
                replace(training, model=model, label=label, kind="running", seed=int(item.fields["seed"]))
            )
    return running


def _models(times: Sequence[Time], trainings: Sequence[Training]) -> list[str]:
    """All models, in the order of the trainings, which is that of their parameters."""
    names = dict.fromkeys(training.model for training in trainings)
    names |= dict.fromkeys(name_of(model) for time in times for model in time.dense)
    return list(names | dict.fromkeys(each.file.size for time in times for each in time.files))


def _trained_on(times: Sequence[Time], trainings: Sequence[Training]) -> tuple[Metric, str]:
    """The metric of the trainings and the set that it is of."""
    for training in trainings:
        if training.points:
            row = training.points[0]
            return training.metric or metric_of(row), training.on or str(row["set"])
    rows = [model.rows[0] for time in times for model in (*time.dense, *(f.file.tuning for f in time.files))]
    return (metric_of(rows[0]), str(rows[0]["set"])) if rows else (Metric("", False), "")


def _estimates(candidates: Sequence[Candidate], on: str) -> str:
    """What open circles are. `on` is the set of the others."""
    text = "Open circles are estimated: these models were compressed at another time only"
    sets = list(dict.fromkeys(each.shown_on for each in candidates if each.estimated))
    return f"{text}." if sets in ([], [on]) else f"{text}, and their values are those on {', '.join(sets)}."


def _curve(
    training: Training, axes: Sequence[str], models: list[str], commands: Commands, links: dict[str, str]
) -> CurveData:
    return {
        "model": models.index(training.model),
        "label": printable(training.label),
        "kind": training.kind,
        "columns": {axis: [_short(point[axis]) for point in training.points] for axis in axes},
        "values": [_short(point["value"]) for point in training.points],
        "command": commands.dense(training.model, [] if training.seed is None else [training.seed]),
        "run": links.get(training.run, ""),
    }


def _short(number: float) -> float:
    """Six digits, which are more than a picture shows."""
    return float(f"{number:.6g}")


def _seeds(model: Measured) -> list[int]:
    return list(dict.fromkeys(int(row["seed"]) for row in model.rows))


def _dense(
    model: Measured, time: int, models: list[str], parameters: dict[str, float], commands: Commands
) -> DenseData:
    low, high = interval(model.values) or (None, None)
    return {
        "model": models.index(name_of(model)),
        "time": time,
        "parameters": parameters.get(str(model.key[0])),
        "value": model.mean,
        "low": low,
        "high": high,
        "trainings": len(model.values),
        "command": commands.dense(name_of(model), _seeds(model)),
    }


def _files(times: Sequence[Time], models: list[str], commands: Commands) -> list[FileData]:
    files = list[FileData]()
    for number, time in enumerate(times):
        best, candidates = set(map(id, time.best_files())), set(map(id, time.candidates))
        for each in time.files:
            value, low, high = each.shown
            files.append(
                {
                    "model": models.index(each.file.size),
                    "time": number,
                    "recipe": each.recipe,
                    "bytes": each.bytes,
                    "value": _short(value),
                    "low": low if low is None else _short(low),
                    "high": high if high is None else _short(high),
                    "trainings": len(each.file.reported.values),
                    "estimated": each.estimated,
                    "candidate": id(each) in candidates,
                    "frontier": id(each) in best,
                    "command": commands.file(each.file),
                }
            )
    return files


def _time_stop(time: Time) -> Stop:
    if time.seconds is None:
        return {"value": 0.0, "label": f"at {time.mark}" if time.mark else "the whole training"}
    return {"value": time.seconds, "label": duration(time.seconds)}


def _limits(choices: Sequence[Sequence[Choice]]) -> list[Stop]:
    """The bytes from which a choice is another one, at any time; of those that differ by headers the last."""
    limits = sorted({choice.limit for each in choices for choice in each if choice.limit})
    apart = [a for a, b in itertools.pairwise([*limits, math.inf]) if not no_larger(b, a)]
    return [{"value": limit, "label": file_size(limit)} for limit in apart]


def _start(times: Sequence[Time], limits: Sequence[Stop]) -> int:
    """The limit that the page opens with: the bytes of the smallest model uncompressed, which a larger one
    that is compressed competes with; the largest where there is no such model."""
    whole = [each for time in times[-1:] for each in time.files if is_whole(each.file)]
    wanted = min((each.bytes for each in whole), default=math.inf)
    fitting = [number for number, limit in enumerate(limits) if limit["value"] <= wanted]
    return fitting[-1] if fitting else 0


def _choices(
    time: Time, choices: Sequence[Choice], models: list[str], candidates: list[Candidate]
) -> list[ChoiceData]:
    numbers = {id(candidate): number for number, candidate in enumerate(candidates)}
    before = f"For {duration(time.seconds)} of training" if time.seconds else "Of these models"

    def data(choice: Choice) -> ChoiceData:
        files = " and files of up to {limit}" if choice.chosen else ""
        return {
            "limit": choice.limit,
            "model": models.index(choice.model),
            "file": numbers.get(id(choice.chosen)),
            "next": numbers.get(id(choice.next)),
            "head": printable(f"{before}{files}, {choice.head}", 500),
            "value": typeset(choice.value),
            "against": typeset(choice.against),
        }

    return [data(choice) for choice in choices]
