"""Which size to train, and how to compress it: all sizes as pilots predict them, compared with each other.

The loss of a compressed model is that of the law (`scaling_law.py`) times the measured rise by its
compression (`compression_rise.py`), both as draws, so that their errors add up. Sizes are compared by the
difference of their draws, which share the law that they are drawn from: two intervals that overlap may be of
sizes that differ for certain.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from tlc_jax.studies.compression_rise import CompressionRise, Recipe
from tlc_jax.studies.law_intervals import FittedLaw, covered
from tlc_jax.studies.pilot_points import Pilot
from tlc_jax.studies.plan_record import PlannedDifference, PlannedRecipe, PlannedSize, Verdict, best_files
from tlc_jax.studies.update_speed import Speed

DENSE: Recipe = (32, 0.0)
MEGABYTE = 1e6
_SEED = 1  # of the draws; that of the resampling is another


@dataclass(frozen=True)
class Target:
    """What a plan is for. `sizes` are the parameters of each size that may be chosen."""

    seconds: float
    bytes: float
    sizes: Mapping[str, float]
    speeds: Mapping[str, Speed]


@dataclass(frozen=True)
class _Predicted:
    """A size with the draws of its loss and of those of its recipes."""

    planned: PlannedSize
    draws: tuple[Float[np.ndarray, "draws"], ...]

    @property
    def best(self) -> Float[np.ndarray, "draws"] | None:
        """The draws of its best recipe within the limit."""
        return None if self.planned.best is None else self.draws[self.planned.best]


def tokens_of(pilot: Pilot, target: Target, size: str) -> float:
    """The tokens that a size is trained on in the time."""
    return steps_of(target, size) * pilot.tokens_per_step


def most_tokens(pilot: Pilot, target: Target, size: str) -> float:
    """The tokens that a size is trained on in the time where its updates are as fast as they may be."""
    speed = target.speeds[size]
    return tokens_of(pilot, target, size) * speed.seconds / speed.low


def steps_of(target: Target, size: str) -> int:
    """The updates of a size in the time; at least 1."""
    return max(1, round(target.seconds / target.speeds[size].seconds))


def predicted_sizes(
    pilot: Pilot, law: FittedLaw, target: Target
) -> tuple[tuple[PlannedSize, ...], tuple[PlannedDifference, ...]]:
    """All sizes in the order of their parameters, each with its verdict (of none that fits in the bytes, none
    is chosen), and the differences of their best files for any number of bytes."""
    rise, rng = CompressionRise(pilot.rises), np.random.default_rng(_SEED)
    # of a device that is not here, all sizes are faster or slower together
    shift = rng.uniform(-0.5, 0.5, len(law.draws.E))
    sizes = sorted(target.sizes, key=lambda size: target.sizes[size])
    predicted = [_predicted(size, pilot, law, rise, target, shift, rng) for size in sizes]
    fitting = [each for each in predicted if each.best is not None]
    differences = tuple(_differences(predicted))
    if not fitting:
        return tuple(each.planned for each in predicted), differences
    chosen = min(fitting, key=lambda each: float(np.median(_best(each))))
    return tuple(_judged(each, chosen) for each in predicted), differences


def _differences(predicted: list[_Predicted]) -> Iterator[PlannedDifference]:
    for each in best_files([each.planned for each in predicted]):
        if each.other is not None:
            best, other = (predicted[size].draws[recipe] for size, recipe in (each.best, each.other))
            yield PlannedDifference(each.best, each.other, *_median_and_interval(other - best))


def _predicted(
    size: str,
    pilot: Pilot,
    law: FittedLaw,
    rise: CompressionRise,
    target: Target,
    shift: Float[np.ndarray, "draws"],
    rng: np.random.Generator,
) -> _Predicted:
    parameters, speed = target.sizes[size], target.speeds[size]
    tokens = tokens_of(pilot, target, size)
    dense = law.predict(parameters, tokens * (speed.high / speed.low) ** shift, rng)
    draws, recipes = [], []
    for recipe in (DENSE, *rise.recipes):
        losses = dense * rise.ratio(recipe, parameters, tokens, len(dense), rng)
        paper, file, measured = bytes_of(pilot, size, parameters, recipe)
        draws.append(losses)
        recipes.append(PlannedRecipe(*recipe, *_median_and_interval(losses), paper, file, measured))
    fitting = [number for number, recipe in enumerate(recipes) if recipe.file_bytes <= target.bytes]
    planned = PlannedSize(
        size,
        round(parameters),
        speed.seconds,
        speed.source,
        steps_of(target, size),
        tokens,
        pilot.tokens_per_epoch and tokens / pilot.tokens_per_epoch,
        *_median_and_interval(dense),
        tuple(recipes),
        best=min(fitting, key=lambda number: recipes[number].loss) if fitting else None,
        difference=None,
        verdict="too large",
    )
    return _Predicted(planned, tuple(draws))


def bytes_of(pilot: Pilot, size: str, parameters: float, recipe: Recipe) -> tuple[float, float, bool]:
    """(the paper's bytes, those of the file, whether they were measured) of a size: bytes of a parameter are
    interpolated between the sizes that were compressed, over the logarithm of their parameters. The smallest
    and the largest stand for sizes beyond them. Of what was not measured at all, 32 bits."""
    if measured := pilot.bytes.get((size, recipe)):
        return *measured, True
    known = sorted(
        (pilot.parameters[other], *sizes)
        for (other, kind), sizes in pilot.bytes.items()
        if kind == recipe and other in pilot.parameters
    )
    if not known:
        return 4 * parameters, 4 * parameters, False
    counts, paper, file = np.array(known).T
    each = [np.interp(np.log(parameters), np.log(counts), column / counts) for column in (paper, file)]
    return float(each[0] * parameters), float(each[1] * parameters), False


def _judged(each: _Predicted, chosen: _Predicted) -> PlannedSize:
    if each.best is None:
        return each.planned
    difference = _best(each) - _best(chosen)
    median, low, high = _median_and_interval(difference)
    verdict: Verdict = "chosen" if each is chosen else "worse" if low > 0 else "undecided"
    fields = vars(each.planned) | {"difference": (median, low, high), "verdict": verdict}
    return PlannedSize(**fields)


def _best(each: _Predicted) -> Float[np.ndarray, "draws"]:
    assert each.best is not None
    return each.best


def _median_and_interval(draws: Float[np.ndarray, "draws"]) -> tuple[float, float, float]:
    return float(np.median(draws)), *covered(draws)
