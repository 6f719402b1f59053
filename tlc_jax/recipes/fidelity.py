"""How closely compressed weights match the trained ones: checks, errors and warnings."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from rich.console import Console

from tlc_jax.compression.pipeline import Plan
from tlc_jax.compression.prune import nearly_gone
from tlc_jax.compression.select import undivided
from tlc_jax.compression.weight_errors import ratio, squares
from tlc_jax.config.compression import CompressConfig
from tlc_jax.config.quantization import Rule
from tlc_jax.core import stopping
from tlc_jax.core.errors import UserError
from tlc_jax.core.printable import first_of
from tlc_jax.storage.paths import AnyPath

Advice = Callable[[Mapping[str, str | None]], str]
"""Options of the command and their values (None: a flag) -> what to call instead."""
_BLOCK = 1 << 20
_WORST = 5
_SMALLEST = np.finfo(np.float32).tiny


def check_weights(name: str, x: Any, rule: Rule | None, console: Console) -> None:
    """UserError if weights are not finite; a warning if a rule quantizes some that are too small for a step
    of float32."""
    flat, vanishing = np.asarray(x).reshape(-1), 0
    for start in range(0, flat.size, _BLOCK):
        stopping.check()
        magnitudes = np.abs(flat[start : start + _BLOCK])
        if not np.isfinite(magnitudes).all():
            raise UserError(
                f"{name!r} has weights that are not finite in float32, which no range of codes covers: train "
                "or export the model again"
            )
        vanishing += int(np.count_nonzero((magnitudes < _SMALLEST) & (magnitudes > 0)))
    if vanishing and rule is not None and rule.quant is not None and rule.quant.bits < 32 and flat.size > 1:
        console.print(
            f"warning: {vanishing:,} weights of {name} are below {_SMALLEST:.2g}, the smallest that most "
            "devices distinguish from zero: they become zero"
        )


def report_plan(plan: Plan, console: Console) -> None:
    """Print which tensors have one range per row in place of groups, what else the recipe's steps do not do,
    and which tensors lose nearly all weights."""
    if names := undivided(plan.rules):
        console.print(f"one range per row, since groups do not divide their rows: {first_of(names)}")
    for reason, names in plan.undone.items():
        console.print(f"{reason}: {first_of(names)}")
    for name in nearly_gone(plan.masks):
        console.print(
            f"warning: {name} has lost {100 * (~plan.masks[name]).mean():.1f} % of its weights, which the "
            "model may not survive; see --max-tensor-sparsity"
        )


def report_idle(plan: Plan, console: Console) -> None:
    """Print which steps of a recipe have done nothing, after all tensors are converted."""
    for index in plan.idle():
        console.print(
            f"step {index + 1} of the recipe's {len(plan.recipe)}, {type(plan.recipe[index]).__name__}, did "
            "nothing: it found no tensor to work on"
        )


class Fidelity:
    """The relative errors of tensors, and of all their weights together."""

    def __init__(self) -> None:
        self._change = self._total = 0.0

    def add(self, name: str, x: Any, compressed: Any, rule: Rule) -> dict[str, Any]:
        """The manifest's entry on a tensor: its relative root mean square error, and why something was not
        done to it. UserError if `compressed` is not finite."""
        change = total = 0.0
        if x.dtype.kind == "f":
            change, total = squares(x, compressed)
        if not math.isfinite(change):
            raise UserError(
                f"{name!r} is no longer finite at {rule.quant}, since the range of its weights is wider than "
                "float32: give --zero nudged, which can represent it"
            )
        self._change, self._total = self._change + change, self._total + total
        return {"relative_error": ratio(change, total), **({"why": rule.why} if rule.why else {})}

    @property
    def overall(self) -> float:
        """||v - w|| / ||w|| over all weights w that were added."""
        return ratio(self._change, self._total)


def report_coarse(
    manifest: Mapping[str, Any], config: CompressConfig, out: AnyPath, console: Console, advice: Advice
) -> None:
    """Warn if matrices of an artifact have fewer than 8 bits and one range each, with the command that does
    better, or, where rules or steps of a document have decided so, with what to write there. `advice` writes
    a call with other options."""
    bits = {
        entry["bits"]
        for entry in manifest["tensors"].values()
        if entry["bits"] < 8 and entry.get("granularity") == "tensor" and len(entry["shape"]) > 1
    }
    if not bits or manifest["source"].get("compressed_before"):
        return
    console.print(
        "warning: below 8 bits one range per tensor loses much; one for every 64 weights, of least squares, "
        "loses several times less for about half a bit more per weight:"
    )
    chosen = config.target_mb is not None or config.max_drop is not None
    by_options = config.granularity == "tensor" and (chosen or config.bits in bits)
    if not by_options:
        console.print(f'  QuantSpec({min(bits)}, "group:64", "mse") in the rules or steps of --config')
        return
    better = {
        "--granularity": "group:64",
        "--matrices-only": None,
        "--out": f"{out}-group64",
    }
    if config.target_mb is None:  # a byte budget has ranges of least squares
        better["--range"] = "mse"
    console.print(f"  {advice(better)}", soft_wrap=True)


def report_errors(manifest: Mapping[str, Any], console: Console) -> None:
    """Print the relative error of all weights, and the tensors with the largest errors."""
    errors = {name: entry["relative_error"] for name, entry in manifest["tensors"].items()}
    worst = sorted((name for name in errors if errors[name] > 0), key=lambda name: -errors[name])[:_WORST]
    if not worst:
        console.print("every weight is unchanged")
        return
    console.print(f"relative error (root mean square): {manifest['relative_error']:.4f}; the largest:")
    for name in worst:
        console.print(f"  {errors[name]:.4f}  {name}")
