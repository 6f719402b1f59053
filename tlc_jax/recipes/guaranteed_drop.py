"""The smallest model whose loss of accuracy is certain to be small: `compress --max-drop`.

Recipes are tested from the largest file to the smallest, in an order that is fixed before any of them is
evaluated, each at the full confidence on the tuning set. The first that fails ends it, and the last before it
is taken. It loses more than `max_drop` with a probability of at most 1 - confidence, however many are tested:
a recipe that loses more is taken only if the first such recipe of the order has passed its own test
(fixed-sequence testing: Maurer, Hothorn and Lehmacher 1995; for the choice of models, Angelopoulos et al.
2021, Learn then Test). What is certain is the drop on examples like those of the tuning set.

The order is of fewer and fewer bits or, with `mixed_bits`, of one number of bits for all tensors and then of
mixes, each of nine tenths of the bytes of the one before. A mix is searched for, but without the tuning set:
the bytes are shares of those of the first recipe, and which tensor gets which bits, granularity and sparsity
follows from the divergence of predictions on training examples (sensitivity.py), on which nothing is tested.
Given the model and its training data, the whole sequence is thus as fixed as that of bits, and the argument
above holds word for word. It would not if a mix were chosen among candidates by their accuracy on the tuning
set, as `target_mb` does. That a mix may be worse than the next one costs no certainty, but ends the tests
earlier.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool
from rich.console import Console

from tlc_jax.compression.pipeline import recipe_of
from tlc_jax.compression.steps import Needs
from tlc_jax.config.compression import CompressConfig
from tlc_jax.core.errors import UserError
from tlc_jax.core.printable import counted
from tlc_jax.core.tree import Params
from tlc_jax.parallel.mesh import replicated
from tlc_jax.recipes.calibration import calibrated
from tlc_jax.recipes.compressed_model import CompressedModel, compress_model, mixed_models, to_round
from tlc_jax.recipes.drop_bound import drop_bound, least_drop
from tlc_jax.recipes.kept_tokens import unseen
from tlc_jax.recipes.tuning_evaluator import task_of
from tlc_jax.runs.load import TrainedModel
from tlc_jax.tasks.base import Task
from tlc_jax.tasks.metric import ConfusionMetric
from tlc_jax.training.example_scorer import ExampleScorer

_STEP, _MIXES = 0.9, 40  # a mix has this share of the bytes before; 40 are 1.5 % of the first
_OF_MIXES: dict[str, Any] = {"max_drop": None, "mixed_bits": False}
Right = Bool[np.ndarray, "examples"]
"""Which examples of a set a model is right on."""


@dataclass(frozen=True)
class DropTest:
    """How the answers of one recipe differ from those before compression, and the drop that is certain."""

    lost: int
    gained: int
    bound: float
    passed: bool

    def __str__(self) -> str:
        verdict = "passed" if self.passed else "failed"
        return f"{self.lost:,} lost, {self.gained:,} gained: a drop of at most {self.bound:.4f}, {verdict}"


@dataclass(frozen=True)
class Certain:
    """The smallest recipe that passed, what it makes of the model, and the manifest's report on all tests."""

    config: CompressConfig
    result: CompressedModel
    report: dict[str, Any]


def smallest_certain(model: TrainedModel, config: CompressConfig, console: Console) -> Certain:
    """The recipe with the fewest bits, from those of `config` downwards, that is certain to lose at most its
    `max_drop`. UserError where the task counts no examples, where the tuning set is too small for any recipe,
    and where none passes."""
    assert config.max_drop is not None
    _check_mixes(config)
    task = task_of(model)
    name = _counted_set(task, config)
    before = _right(model, task, model.params, name)
    examples = len(before)
    console.print(
        f"{name}: {before.mean():.4f} of {examples:,} examples are right before compression; a recipe passes "
        f"if a drop of at most {config.max_drop:g} is certain with confidence {config.confidence:g}"
    )
    made: list[tuple[CompressConfig, CompressedModel]] = []

    def answers() -> Iterator[Right]:
        for tried, result in (mixed_sequence if config.mixed_bits else sequence)(model, config, console):
            _check_same_texts(model, result.model, name)
            made.append((tried, result))
            yield _right(result.model, task_of(result.model), result.params, name)

    best, tests = None, list[dict[str, Any]]()
    for test in in_order(before, answers(), config.max_drop, config.confidence):
        tried, result = made.pop()
        size = result.sizes.format_bytes
        about = _about(tried)
        tests.append({**about, "format_bytes": size, **vars(test)})
        said = f"mix of {about['megabytes']:.3f} MB" if "megabytes" in about else counted(tried.bits, "bit")
        console.print(f"  {said:6s}  {size:12,} bytes  {test}")
        if test.passed:
            best = tried, result
    if best is None:
        raise UserError(
            f"{counted(config.bits, 'bit')} may lose more than {config.max_drop:g}, as far as {examples:,} "
            "examples can tell: give a larger --max-drop, more data, or --granularity group:64 --range mse"
        )
    before_it = "weights" if model.unrounded is None else "rounded weights"
    report = {"max_drop": config.max_drop, "confidence": config.confidence, "set": name, "before": before_it}
    return Certain(*best, {**report, "examples": examples, **_about(best[0]), "tests": tests})


def in_order(
    before: Right, answers: Iterable[Right], max_drop: float, confidence: float
) -> Iterator[DropTest]:
    """The tests of recipes by their answers, up to and with the first that fails."""
    for after in answers:
        lost, gained = int((before & ~after).sum()), int((after & ~before).sum())
        bound = drop_bound(len(before), lost, gained, confidence)
        yield DropTest(lost, gained, bound, passed=bound <= max_drop)
        if bound > max_drop:
            return


def sequence(
    model: TrainedModel, config: CompressConfig, console: Console
) -> Iterator[tuple[CompressConfig, CompressedModel]]:
    """Recipes and what they make of the model, in the order in which they are tested: the same one with fewer
    and fewer bits."""
    for bits in range(config.bits, 1 if config.zero == "symmetric" else 0, -1):  # whose codes need 2 bits
        tried = dataclasses.replace(config, bits=bits)
        yield tried, _compressed(model, tried, console)


def mixed_sequence(
    model: TrainedModel, config: CompressConfig, console: Console
) -> Iterator[tuple[CompressConfig, CompressedModel]]:
    """The recipe with its own bits, then mixes, each of nine tenths of the bytes before. The tuning set is
    not looked at."""
    first = _compressed(model, config, console)
    yield config, first
    size = first.file_bytes("plain")
    budgets = [int(size * _STEP**power) for power in range(1, _MIXES + 1)]
    configs = [dataclasses.replace(config, **_OF_MIXES, target_mb=budget / 1e6) for budget in budgets]
    models = mixed_models(model, recipe_of(configs[0]), budgets, console, config.calibration_text)
    yield from zip(configs, models, strict=False)


def _compressed(model: TrainedModel, tried: CompressConfig, console: Console) -> CompressedModel:
    """What one recipe makes of the model: of the weights that its run trains, where that rounds them in the
    same way."""
    recipe = recipe_of(tried)
    return compress_model(to_round(model, recipe), recipe, console, tried.calibration_text)


def _check_mixes(config: CompressConfig) -> None:
    """UserError where steps measure what mixes choose."""
    if config.mixed_bits and calibrated(recipe := recipe_of(config)):
        names = [type(step).__name__ for step in recipe if step.needs is Needs.CALIBRATION]
        raise UserError(
            f"--mixed-bits chooses the bits of each tensor without calibration data, and "
            f"{', '.join(names)} in the recipe needs such data: omit --mixed-bits, or leave out the step"
        )


def _about(tried: CompressConfig) -> dict[str, Any]:
    """What a report says of a recipe: its bits, or the size of its mix."""
    return {"bits": tried.bits} if tried.target_mb is None else {"megabytes": tried.target_mb}


def _check_same_texts(before: TrainedModel, after: TrainedModel, name: str) -> None:
    """UserError where a trimmed tokenizer would read the texts of the set in another way than it is tested
    with here."""
    if after.vocabulary is not None and (gone := unseen(before, after.vocabulary, name)[0]):
        raise UserError(
            f"{name} has {gone:,} tokens that TrimVocabulary would remove, and what the artifact makes of "
            "their text is not tested: give a --calibration-text that has them, or omit --max-drop"
        )


def _counted_set(task: Task, config: CompressConfig) -> str:
    """The tuning set of a task whose metric counts examples, if it is large enough for the drop."""
    metric, name = task.primary_metric, task.evaluation_sets()[0]
    if not (isinstance(metric, ConfusionMetric) and metric.mean_over_examples):
        raise UserError(
            f"--max-drop counts the examples that are no longer right, and this task is judged by "
            f"{metric.name}: omit it, or give --target-mb, which uses any metric"
        )
    examples, drop = task.evaluation_size(name), config.max_drop
    assert drop is not None
    if (least := least_drop(examples, config.confidence)) > drop:
        enough = math.ceil(1.05 * math.log(1 - config.confidence) / math.log1p(-drop))
        raise UserError(
            f"--max-drop {drop:g} cannot be certain with the {examples:,} examples of {name}, even if no "
            f"prediction changed: give --max-drop {_rounded_up(least)} or more, or about {enough:,} examples"
        )
    return name


def _rounded_up(share: float) -> str:
    return f"{math.ceil(share * 1e4) / 1e4:g}"


def _right(model: TrainedModel, task: Task, params: Params, name: str) -> Right:
    params = jax.device_put(params, replicated(model.mesh))
    scores, _ = ExampleScorer(task, model.config.at_once, model.mesh)(params, name)
    return scores > 0
