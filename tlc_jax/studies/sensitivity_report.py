"""Which matrices of a model mind compression: a table of each alone."""

from __future__ import annotations

import dataclasses

import jax
from rich.table import Table

from tlc_jax.config.compression import CompressConfig
from tlc_jax.config.study_options import SensitivityConfig
from tlc_jax.core.json_text import json_text
from tlc_jax.core.stacked import split
from tlc_jax.recipes.mix import Source, sensitivities
from tlc_jax.recipes.rules import rules_of
from tlc_jax.recipes.sensitivity import BITS, SPARSITIES, Divergence, Sensitivity, own_task
from tlc_jax.runs.restore import trained_model
from tlc_jax.storage.paths import parse_path, write_text
from tlc_jax.storage.writable import check_writable
from tlc_jax.training.view import make_console


def report_sensitivity(config: SensitivityConfig) -> None:
    """Measures, writes and prints."""
    console, output = make_console(), parse_path(config.output)
    check_writable(output, "--output")
    model = trained_model(config.run, console.print)
    tensors = split(jax.device_get(model.params))
    damage = Divergence(own_task(model), tensors, model.config, config.examples)
    found = sensitivities(Source(tensors, rules_of(tensors, CompressConfig()), model.masks, damage), console)
    lines = (
        json_text({"tensor": name, "size": tensors[name].size, **dataclasses.asdict(own)})
        for name, own in found.items()
    )
    write_text(output, "".join(f"{line}\n" for line in lines))
    console.print(_table(found))
    console.print(f"numbers in {output}")


def _table(found: dict[str, Sensitivity]) -> Table:
    table = Table(
        title="divergence from the uncompressed model, 10^-3 nats a prediction",
        caption="one matrix compressed, all others as they are; ranges of least squares",
    )
    table.add_column("matrix")
    pruned = [own for own in SPARSITIES if own]
    for heading in (*(f"{100 * own:g} % pruned" for own in pruned), *(f"{bits} bits" for bits in BITS)):
        table.add_column(heading, justify="right")
    for name, own in found.items():
        values = (*(own.pruned.get(s) for s in pruned), *(own.quantized[bits] for bits in BITS))
        table.add_row(name, *("" if x is None else f"{1000 * x:.3g}" for x in values))
    return table
