"""Which of the compressions that pilots have measured a plan offers: those that its study asks for."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

from tlc_jax.config import StudyConfig
from tlc_jax.core.printable import counted
from tlc_jax.studies.compression_rise import FEWEST, CompressionRise, Recipe
from tlc_jax.studies.pilot_points import Pilot
from tlc_jax.studies.plan_text import recipe_text
from tlc_jax.studies.planner import DENSE

_NAMED = 5


def offered_recipes(config: StudyConfig, pilot: Pilot) -> tuple[Pilot, tuple[str, ...]]:
    """The pilot with only those compressions that are among the bits and sparsities of a study, and notes on
    what is measured or asked for alone."""
    asked = {*itertools.product(config.bits, config.sparsities)} - {DENSE}
    measured = CompressionRise(pilot.rises).recipes
    notes = list[str]()
    if missing := [recipe for recipe in sorted(asked, reverse=True) if recipe not in measured]:
        few = f"fewer than {counted(FEWEST, 'model')} of the pilots were compressed so"
        notes.append(f"Not offered, since {few}: {_named(missing)}.")
    if unwanted := [recipe for recipe in measured if recipe not in asked]:
        notes.append(f"Measured, but not among --bits and --sparsities: {_named(unwanted)}.")
    rises = tuple(rise for rise in pilot.rises if rise.recipe in asked)
    return dataclasses.replace(pilot, rises=rises), tuple(notes)


def _named(recipes: Sequence[Recipe]) -> str:
    more = f" and {len(recipes) - _NAMED} more" if len(recipes) > _NAMED else ""
    return "; ".join(recipe_text(*recipe) for recipe in recipes[:_NAMED]) + more
