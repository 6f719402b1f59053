"""From any safetensors checkpoint to an artifact: by rules, without a model, one tensor at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from tlc_jax.artifacts.artifact import check_new, write_artifact
from tlc_jax.artifacts.checkpoint_folder import CheckpointFolder
from tlc_jax.compression.pipeline import Plan, make_plan, recipe_of, shrinks
from tlc_jax.compression.steps import Recipe
from tlc_jax.config.compression import CompressConfig
from tlc_jax.core.errors import UserError
from tlc_jax.core.leaf import Leaf
from tlc_jax.core.sizes import Sizes
from tlc_jax.recipes.budget_search import Source
from tlc_jax.recipes.byte_budget import fit_bytes, has_budget
from tlc_jax.recipes.calibration import UNREAD_TEXT, calibrated
from tlc_jax.recipes.fidelity import Fidelity, check_weights, report_idle, report_plan
from tlc_jax.recipes.folder_on_text import FolderOnText, folder_on_text
from tlc_jax.recipes.sensitivity import squared_error
from tlc_jax.runs.card import MADE_BY, card_of_folder
from tlc_jax.storage.paths import AnyPath
from tlc_jax.storage.sealed import fingerprint


def compress_folder(folder: Path, config: CompressConfig, out: AnyPath, console: Console) -> dict[str, Any]:
    """Write the artifact of a checkpoint's folder to the new folder `out` and return its manifest. Its
    configuration and tokenizer are copied. Memory holds one tensor at a time, and what was written; with a
    text, the whole encoder."""
    check_new(out)
    recipe, fit = recipe_of(config), None
    if shrinks(recipe):
        raise UserError(
            "heads, feed-forward units, layers and tokens can only be removed from a run, not with --hf: "
            "omit --heads, --feed-forward-size and the steps that do"
        )
    if config.max_drop is not None:
        raise UserError("--max-drop needs data to count right examples on, which --hf has not: give a run")
    source = CheckpointFolder(folder)
    for name in source.left_out:
        console.print(f"{name} is left out, since it holds no weights of the model")
    floats = [name for name in source if source.is_float(name)]
    if not any(np.prod(source.shape(name)) for name in floats):
        raise UserError(f"--hf {folder} has no weights: give a folder with tensors of floats")
    if has_budget(recipe):
        for name in floats:
            check_weights(name, source[name], None, console)
    on_text = _on_text(folder, config, recipe, source, floats, console)
    inputs = on_text.inputs if on_text else None
    if has_budget(recipe):
        damage = on_text.damage if on_text else squared_error(source, floats)
        fit = fit_bytes(recipe, Source(source, {}, damage, source.shapes, inputs), None, console)
    plan = fit.plan if fit else make_plan(source, recipe, shapes=source.shapes, inputs=inputs)
    report_plan(plan, console)
    sizes, fidelity = list[Sizes](), Fidelity()

    def about() -> dict[str, Any]:
        return {
            "made_by": MADE_BY,
            "source": {"kind": "folder", "files": {n: fingerprint(folder / n) for n in source.files}},
            "compression": config.recorded(),
            "recipe": [step.recorded() for step in recipe],
            "size": asdict(sum(sizes, Sizes())),
            "relative_error": fidelity.overall,
            **({"target": fit.report} if fit else {}),
        }

    others = {name: path.read_bytes() for name, path in source.others.items()}
    items = _converted(source, plan, sizes, fidelity, console)
    manifest = write_artifact(out, items, about, others, coding=config.coding, card=card_of_folder)
    report_idle(plan, console)
    return manifest


def _on_text(
    folder: Path,
    config: CompressConfig,
    recipe: Recipe,
    source: CheckpointFolder,
    floats: list[str],
    console: Console,
) -> FolderOnText | None:
    """What the text that a config names says of the folder; None without one. UserError where no step reads
    it."""
    if (text := config.calibration_text) is None:
        return None
    if not (calibrated(recipe) or has_budget(recipe)):
        raise UserError(UNREAD_TEXT)
    return folder_on_text(folder, text, source, floats, console)


def _converted(
    source: CheckpointFolder, plan: Plan, sizes: list[Sizes], fidelity: Fidelity, console: Console
) -> Iterator[tuple[str, Leaf, dict[str, Any]]]:
    """What the artifact holds of each tensor; sizes and errors are added to `sizes` and `fidelity`."""
    for name, x in source.items():
        if source.is_float(name):
            check_weights(name, x, plan.rules[name], console)
        if lost := source.vanished.get(name):
            console.print(f"warning: {lost:,} weights of {name} are too small for float32: they become zero")
        leaf = plan.convert(name, x)
        sizes.append(leaf.sizes())
        yield name, leaf, fidelity.add(name, x, leaf.dense(), plan.rules[name])
