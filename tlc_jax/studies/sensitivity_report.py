"""The report of sensitivities: the damage of compressing each matrix of a model alone."""

from __future__ import annotations

import dataclasses

import jax
from rich.table import Table

from tlc_jax.compression.methods import Quantize
from tlc_jax.compression.pipeline import make_plan
from tlc_jax.config.report_options import SensitivityConfig
from tlc_jax.core.json_text import json_text
from tlc_jax.core.stacked import split
from tlc_jax.recipes.budget_search import Source, sensitivities
from tlc_jax.recipes.sensitivity import BITS, SPARSITIES, Divergence, Sensitivity
from tlc_jax.recipes.tuning_evaluator import task_of
from tlc_jax.runs.load import load_model
from tlc_jax.storage.paths import parse_path, write_text
from tlc_jax.storage.writable import check_writable
from tlc_jax.training.view import make_console


def report_sensitivity(config: SensitivityConfig) -> None:
    """Measure the sensitivities, write them and print them as a table."""
    console, output = make_console(), parse_path(config.output)
    check_writable(output, "--output")
    model = load_model(config.run, warn=console.print)
    tensors = split(jax.device_get(model.params))
    damage = Divergence(task_of(model), tensors, model.config, config.examples)
    rules = make_plan(tensors, (Quantize(),)).rules
    measured = sensitivities(Source(tensors, model.masks, damage, tensors), rules, console)
    lines = (
        json_text({"tensor": name, "size": tensors[name].size, **dataclasses.asdict(sensitivity)})
        for name, sensitivity in measured.items()
    )
    write_text(output, "".join(f"{line}\n" for line in lines))
    console.print(_table(measured))
    console.print(f"numbers: {output}")


def _table(measured: dict[str, Sensitivity]) -> Table:
    table = Table(
        title="divergence from the uncompressed model, 10^-3 nats per prediction",
        caption="one matrix compressed, all others unchanged; ranges of least squares",
    )
    table.add_column("matrix")
    levels = [level for level in SPARSITIES if level]
    for heading in (*(f"{100 * level:g} % pruned" for level in levels), *(f"{bits} bits" for bits in BITS)):
        table.add_column(heading, justify="right")
    for name, sensitivity in measured.items():
        pruned = (sensitivity.pruned.get(level) for level in levels)
        values = (*pruned, *(sensitivity.quantized[bits] for bits in BITS))
        table.add_row(name, *("" if x is None else f"{1000 * x:.3g}" for x in values))
    return table
