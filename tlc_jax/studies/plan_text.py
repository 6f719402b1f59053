"""A plan in words: its table, its answer and what it does not cover."""

from __future__ import annotations

import numpy as np
from rich.table import Table

from tlc_jax.core.printable import three_digits
from tlc_jax.core.progress import duration
from tlc_jax.studies.law_intervals import FittedLaw
from tlc_jax.studies.pilot_points import Pilot
from tlc_jax.studies.plan_record import Plan, PlannedRecipe, PlannedSize
from tlc_jax.studies.planner import MEGABYTE
from tlc_jax.studies.scaling_law import relative_errors

PASSES = 4  # Muennighoff et al. 2023, section 6: until then repeated tokens are nearly as good as new ones


def plan_table(plan: Plan) -> Table:
    """All sizes, each with its best compression within the limit."""
    table = Table(
        title=f"{duration(3600 * plan.hours)} on {plan.device}, at most {plan.target_mb:g} MB: {plan.metric} "
        f"on {plan.set}, predicted, with intervals of 95 %"
    )
    for name in ("size", "parameters", "seconds of an update", "updates", "tokens per parameter"):
        table.add_column(name, justify="left" if name == "size" else "right")
    for name in ("not compressed", "best within the limit", "MB, paper's", "MB, file", "compressed", ""):
        table.add_column(name, justify="right" if name.startswith("MB") else "left")
    for each in plan.sizes:
        best = each.best_recipe
        table.add_row(
            each.size,
            f"{each.parameters:,}",
            three_digits(each.step_seconds),
            f"{each.steps:,}",
            three_digits(each.tokens / each.parameters),
            _loss(each.loss, each.low, each.high),
            *_compressed(best),
            each.verdict,
        )
    return table


def _compressed(recipe: PlannedRecipe | None) -> tuple[str, str, str, str]:
    if recipe is None:
        return "none", "", "", ""
    about = "" if recipe.bytes_measured else "about "
    return (
        recipe_text(recipe.bits, recipe.sparsity),
        three_digits(recipe.paper_bytes / MEGABYTE),
        about + three_digits(recipe.file_bytes / MEGABYTE),
        _loss(recipe.loss, recipe.low, recipe.high),
    )


def recipe_text(bits: int, sparsity: float) -> str:
    """Such as 4 bits, 30 % pruned."""
    pruned = f"{100 * sparsity:g} % pruned" if sparsity else ""
    return ", ".join(filter(None, (f"{bits} bits" if bits != 32 else "", pruned))) or "not compressed"


def answer(plan: Plan) -> str:
    """The sentence that says what to train."""
    chosen = plan.chosen
    best = chosen.best_recipe
    assert best is not None
    file, loss = f"{three_digits(best.file_bytes / MEGABYTE)} MB", _loss(best.loss, best.low, best.high)
    text = (
        f"Train {chosen.size} for {duration(3600 * plan.hours)} ({recipe_text(best.bits, best.sparsity)}, "
        f"{file}): predicted {plan.metric} {loss}."
    )
    others = [each for each in plan.candidates if each is not chosen]
    if others:
        names = " and ".join(map(_difference, others))
        text += f" {names} may be as good."
    return text


def _difference(each: PlannedSize) -> str:
    assert each.difference is not None
    median, low, high = each.difference
    return f"{each.size} ({median:+.4f} [{low:+.4f}, {high:+.4f}])"


def _loss(value: float, low: float, high: float) -> str:
    return f"{value:.4f} [{low:.4f}, {high:.4f}]"


def notes_of(law: FittedLaw, sizes: tuple[PlannedSize, ...], pilot: Pilot) -> tuple[str, ...]:
    """What the law leaves unexplained, and what the prediction does not cover."""
    left = float(np.sqrt(np.mean(np.square(relative_errors(law.law, law.points)))))
    count = len(np.unique(law.points.parameters))
    notes = [
        *_beside_counts(sizes, pilot.gate),
        f"The law is fitted to {len(law.points)} losses of {count} sizes, which it misses by {left:.1%} "
        "(root mean square); longer trainings of the pilot were predicted with an error of "
        f"{law.per_doubling.deviation:.1%} for each doubling of the tokens.",
    ]
    longer = [each.size for each in sizes if each.tokens > 1.01 * law.longest(float(each.parameters))]
    if longer:
        notes.append(
            f"{', '.join(longer)} would be trained for longer than in any pilot: the losses, and their rise "
            "by compression, are extrapolated."
        )
    if new := [each.size for each in sizes if each.size not in pilot.parameters]:
        notes.append(f"No pilot has {', '.join(new)}: intervals are those of sizes that are withheld.")
    if any(each.epochs is None for each in sizes):
        notes.append("The pilots do not say how long a pass over the data is: each token counts as new.")
    elif many := [f"{each.size} ({each.epochs:.0f})" for each in sizes if (each.epochs or 0) > PASSES]:
        notes.append(
            f"Many passes over the data: {', '.join(many)}. The law counts each token as new, which holds "
            f"for about {PASSES} passes; beyond them losses are higher than predicted."
        )
    if any(each.speed == "estimated" for each in sizes):
        notes.append(
            "Seconds of an update are estimated from its operations and a range of utilisation, not measured."
        )
    return tuple(notes)


def _beside_counts(sizes: tuple[PlannedSize, ...], gate: float | None) -> list[str]:
    """Whether the file that is chosen is sure to be better than counts alone."""
    best = next((each.best_recipe for each in sizes if each.verdict == "chosen"), None)
    if best is None or gate is None or best.high < gate:
        return []
    worse = "is predicted to be no better" if best.loss >= gate else "may be no better"
    return [f"What is chosen {worse} than counts alone, which reach {gate:.4f}: give more hours or bytes."]
