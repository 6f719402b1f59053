"""plan.json: what was planned, and what came of it.

A plan is read by `read_plan` and compared with a finished run by `predicted_and_obtained`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from tlc_jax.config.validation import check
from tlc_jax.core.errors import UserError, one_line
from tlc_jax.core.invocation import command
from tlc_jax.storage.paths import AnyPath
from tlc_jax.storage.run_directory import RunDir, write_json
from tlc_jax.storage.untrusted import read_bytes
from tlc_jax.studies.finished_run import EVALUATED
from tlc_jax.studies.item_store import Row
from tlc_jax.training.metrics import read_metrics, with_tokens

PLAN = "plan.json"
Verdict = Literal["chosen", "undecided", "worse", "too large"]
_NEAR = 0.02  # updates end a run this close to its plan; one that was cut short is none


@dataclass(frozen=True)
class PlannedRecipe:
    """A compression of a size: the median of its predicted loss and the interval that covers a training with
    a probability of 95 %; the paper's bytes (non-zeros x bits / 8) and those of the file."""

    bits: int
    sparsity: float
    loss: float
    low: float
    high: float
    paper_bytes: float
    file_bytes: float
    bytes_measured: bool
    """Whether the file was measured, or interpolated between sizes that were."""


@dataclass(frozen=True)
class PlannedSize:
    """A size as it would be after the planned time. `loss` is that of the dense model, and `best` is the
    number of the recipe of `recipes` with the lowest loss within the limit of bytes; None where none fits.
    `difference` is the loss of its best recipe minus that of the chosen size, with its interval:
    'undecided' are sizes whose interval has zero in it."""

    size: str
    parameters: int
    step_seconds: float
    speed: str
    """How it is known: 'measured', the name of a timing file, or 'estimated'."""
    steps: int
    tokens: float
    epochs: float | None
    """Passes over the data; None where the pilot does not say how long one is."""
    loss: float
    low: float
    high: float
    recipes: tuple[PlannedRecipe, ...]
    best: int | None
    difference: tuple[float, float, float] | None
    verdict: Verdict

    @property
    def best_recipe(self) -> PlannedRecipe | None:
        return None if self.best is None else self.recipes[self.best]


FileNumber = tuple[int, int]
"""The number of a size in a plan, and that of one of its recipes."""


@dataclass(frozen=True)
class PlannedDifference:
    """The loss of the file `other` minus that of the file `best`, with its interval: both are drawn from one
    law, so that it may be of one sign where the intervals of both losses overlap."""

    best: FileNumber
    other: FileNumber
    median: float
    low: float
    high: float


@dataclass(frozen=True)
class BestFile:
    """The file with the lowest predicted loss of those of at most `limit` bytes, up to the next limit, and
    the best one of another size; None where only one size fits."""

    limit: float
    best: FileNumber
    other: FileNumber | None


def best_files(sizes: Sequence[PlannedSize]) -> list[BestFile]:
    """The best file for each limit of bytes from which it, or the best of another size, is another one."""
    files = [(n, m) for n, size in enumerate(sizes) for m in range(len(size.recipes))]
    by_loss = sorted(files, key=lambda file: sizes[file[0]].recipes[file[1]].loss)
    changes = list[BestFile]()
    for limit in sorted({recipe.file_bytes for size in sizes for recipe in size.recipes}):
        fitting = [file for file in by_loss if sizes[file[0]].recipes[file[1]].file_bytes <= limit]
        best, other = fitting[0], next((file for file in fitting if file[0] != fitting[0][0]), None)
        if not changes or (best, other) != (changes[-1].best, changes[-1].other):
            changes.append(BestFile(limit, best, other))
    return changes


@dataclass(frozen=True)
class Plan:
    """The answer to: which size, and compressed how, for so many hours on a device and so many bytes."""

    hours: float
    target_mb: float
    """Megabytes (10^6 bytes) of the file."""
    device: str
    metric: str
    set: str
    """The set that the metric is of: that on which choices are made."""
    sizes: tuple[PlannedSize, ...]
    """In the order of their parameters."""
    law: dict[str, tuple[float, float, float]]
    """E, A, B, a and b, each with the ends of its interval."""
    points: int
    """Measured losses that the law is fitted to."""
    notes: tuple[str, ...]
    """What the prediction does not cover."""
    commands: tuple[str, ...]
    """To train and compress the chosen size, ready to be pasted."""
    made: dict[str, Any]
    """Commit, versions, device and date."""
    differences: tuple[PlannedDifference, ...] = ()
    """Of each pair of `best_files`; none in plans of versions that did not compare them."""

    @property
    def chosen(self) -> PlannedSize:
        return next(size for size in self.sizes if size.verdict == "chosen")

    @property
    def candidates(self) -> list[PlannedSize]:
        """The chosen size and those of which the plan cannot say that they are worse."""
        return [size for size in self.sizes if size.verdict in ("chosen", "undecided")]


def write_plan(plan: Plan, path: AnyPath) -> None:
    write_json(path, dataclasses.asdict(plan))


def read_plan(path: AnyPath) -> Plan:
    """The plan of a file, or of a folder that holds plan.json. UserError if it is none."""
    path = path / PLAN if path.is_dir() else path
    try:
        return _checked(TypeAdapter(Plan).validate_json(read_bytes(path)))
    except (OSError, ValueError) as error:
        why = one_line(error)
        if isinstance(error, ValidationError):
            first = error.errors()[0]
            why = one_line(": ".join(filter(None, (".".join(map(str, first["loc"])), first["msg"]))))
        raise UserError(f"{path} is not a plan ({why}): make one with {command('plan')}") from error


def _checked(plan: Plan) -> Plan:
    """The plan, if what is drawn of it is there. ValueError otherwise."""
    for name, value in _numbers(dataclasses.asdict(plan)):
        check(math.isfinite(value), f"{name} is {value}")
    check(plan.hours > 0, f"hours is {plan.hours:g}")
    check(sum(size.verdict == "chosen" for size in plan.sizes) == 1, "not exactly one size is chosen")
    for size in plan.sizes:
        check(min(size.parameters, size.steps, size.step_seconds) > 0, f"{size.size} has nothing to train")
        fits = size.best is None or 0 <= size.best < len(size.recipes)
        check(
            fits and (size.best is not None or size.verdict != "chosen"), f"best of {size.size} is no recipe"
        )
    return plan


def _numbers(content: Any, name: str = "plan") -> Iterator[tuple[str, float]]:
    if isinstance(content, float):
        yield name, content
    elif isinstance(content, dict):
        for key, value in content.items():
            yield from _numbers(value, str(key))
    elif isinstance(content, list | tuple):
        for value in content:
            yield from _numbers(value, name)


def predicted_and_obtained(plan: Plan, run: RunDir) -> list[Row]:
    """What was predicted for the size of a finished run, and what the run has reached, as rows to draw and
    print: one for each of updates, training seconds, tokens and the metric of the plan.

    Each row has the `quantity`, `predicted`, `low` and `high` (the ends of its interval; None without one),
    `obtained`, the relative `error` of the prediction, and `inside`: whether the interval holds (None without
    one). `complete` says whether the run was trained for as long as planned, to 2 %: in seconds or, where its
    budget is one of updates, in these; the metric of another is not comparable. UserError if the plan has no
    such size, or the run no evaluation of the metric.
    """
    config = run.read_config()
    model = config.model
    size = f"{model.num_layers}x{model.hidden_size}"
    planned = next((each for each in plan.sizes if each.size == size), None)
    if planned is None:
        sizes = ", ".join(each.size for each in plan.sizes)
        raise UserError(
            f"{run.root} is a run of {size}, and the plan is of {sizes}: give a run of one of these"
        )
    key = f"{EVALUATED}{plan.set}/{plan.metric}"
    lines = [
        line for line in with_tokens(read_metrics(run.metrics)) if math.isfinite(line.get(key, math.nan))
    ]
    if not lines:
        raise UserError(
            f"{run.metrics} has no {plan.metric} on {plan.set}: give a run that was evaluated on it"
        )
    last, seconds = lines[-1], 3600 * plan.hours
    if config.budget.steps is None:
        trained = float(last["training_seconds"]) / seconds
    else:
        trained = last["step"] / planned.steps
    complete = abs(trained - 1) < _NEAR
    rows: list[Row] = []
    for quantity, predicted, obtained, ends in (
        ("updates", planned.steps, last["step"], None),
        ("training seconds", seconds, last["training_seconds"], None),
        ("tokens", planned.tokens, last.get("tokens"), None),
        (plan.metric, planned.loss, last[key], (planned.low, planned.high)),
    ):
        if not obtained:
            continue
        rows.append(
            {
                "size": size,
                "quantity": quantity,
                "predicted": predicted,
                "low": ends and ends[0],
                "high": ends and ends[1],
                "obtained": obtained,
                "error": predicted / obtained - 1,
                "inside": ends and ends[0] <= obtained <= ends[1],
                "complete": complete,
            }
        )
    return rows
