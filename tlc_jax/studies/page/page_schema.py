"""The JSON inside the page: rows that are gathered, chosen and worded by the modules beside this one. The
page's script draws plots of them and looks up sentences, and computes nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypedDict

SCHEMA = 1


class CurveData(TypedDict):
    """The evaluations of a training. `model` counts in `Part.models`; `kind` is `finished` (the ends of
    branches), `trunk`, `run` or `running`; `columns` are what was used by each evaluation, by the names of
    `training_curve.AXES`; `command` counts in `Part.commands`; `run` is a link, '' for none."""

    model: int
    label: str
    kind: str
    columns: dict[str, list[float]]
    values: list[float]
    command: int
    run: str


class DenseData(TypedDict):
    """What a model reaches at a time before it is compressed: the mean over trainings with its interval
    (null: a single training). `time` counts in `Part.times`."""

    model: int
    time: int
    parameters: float | None
    value: float
    low: float | None
    high: float | None
    trainings: int
    command: int


class FileData(TypedDict):
    """A model as a file. `value` is on the reported set; of one that is `estimated` it is on the tuning set:
    the model before compression at its time, and what the same compression costs at another. `candidate`:
    it was trained no longer than its time, on all data, so it can be chosen. `frontier`: it is a candidate,
    and no smaller one of the same time is as good on the tuning set."""

    model: int
    time: int
    recipe: str
    bytes: float
    value: float
    low: float | None
    high: float | None
    trainings: int
    estimated: bool
    candidate: bool
    frontier: bool
    command: int


class ChoiceData(TypedDict):
    """What is chosen where files may have `limit` bytes, up to the next choice. `file` and `next` count in
    `Part.files` (null: none); `head`, `value` and `against` are sentences, in which {limit} stands for the
    limit that the reader has set."""

    limit: float
    model: int
    file: int | None
    next: int | None
    head: str
    value: str
    against: str


class Stop(TypedDict):
    """A position of a slider."""

    value: float
    label: str


class Part(TypedDict):
    """A plan, a study, or the runs of a report. `files` are the columns of rows as `FileData` has them;
    `estimates` says what those are that are estimated. `choices` has a list for each of `times`, in the order
    of limits; `start` are the positions of both sliders when the page opens."""

    name: str
    models: list[str]
    commands: list[str]
    axes: list[tuple[str, str]]
    metric: str
    higher_is_better: bool
    logarithmic: bool
    trained_on: str
    files_on: str
    files_metric: str
    estimates: str
    gate: float | None
    gate_name: str
    files_gate: float | None
    curves: list[CurveData]
    dense: list[DenseData]
    files: dict[str, list[Any]]
    times: list[Stop]
    limits: list[Stop]
    choices: list[list[ChoiceData]]
    start: tuple[int, int]


class Page(TypedDict):
    """`colours` are those of models, of as many as there are colours."""

    schema: int
    colours: tuple[str, ...]
    parts: list[Part]


def columns_of(rows: Sequence[FileData]) -> dict[str, list[Any]]:
    """A list for each name of the rows, which takes a third of the characters."""
    columns = dict[str, list[Any]]()
    for row in rows:
        for name, value in row.items():
            columns.setdefault(name, []).append(value)
    return columns
