"""How well compressed tensors keep the trained ones: what is checked of each, and what a person is told."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from rich.console import Console

from tlc_jax.compression.select import undivided
from tlc_jax.compression.weight_errors import ratio, squares
from tlc_jax.config.compression import CompressConfig
from tlc_jax.config.quantization import Rule
from tlc_jax.core import cli, stopping
from tlc_jax.core.errors import UserError

_BLOCK = 1 << 20
_WORST = 5
_SMALLEST = np.finfo(np.float32).tiny


def check_weights(name: str, x: Any, rule: Rule, console: Console) -> None:
    """UserError where weights are not finite; a warning where some are too small for a step of float32."""
    flat, vanishing = np.asarray(x).reshape(-1), 0
    for start in range(0, flat.size, _BLOCK):
        stopping.check()
        magnitudes = np.abs(flat[start : start + _BLOCK])
        if not np.isfinite(magnitudes).all():
            raise UserError(
                f"{name!r} has weights that are not finite in float32: no range holds them, mend the model "
                "first"
            )
        vanishing += int(np.count_nonzero((magnitudes < _SMALLEST) & (magnitudes > 0)))
    if vanishing and rule.quant is not None and rule.quant.bits < 32 and flat.size > 1:
        console.print(
            f"warning: {vanishing:,} weights of {name} are below {_SMALLEST:.2g}, the smallest that most "
            "devices tell from zero: they become zero"
        )


class Fidelity:
    """Errors of the tensors that were added, and of all their weights together."""

    def __init__(self) -> None:
        self._change = self._whole = 0.0

    def add(self, name: str, x: Any, found: Any, rule: Rule) -> dict[str, Any]:
        """What the manifest says of a tensor: the relative root mean square of what compression changed, and
        why something was left. UserError if what would be written is not finite."""
        change = whole = 0.0
        if x.dtype.kind == "f":
            change, whole = squares(x, found)
        if not math.isfinite(change):
            raise UserError(
                f"{name!r} is not finite any more at {rule.quant}: its weights span more than float32 does; "
                "give --zero nudged, which holds them"
            )
        self._change, self._whole = self._change + change, self._whole + whole
        return {"relative_error": ratio(change, whole), **({"why": rule.why} if rule.why else {})}

    @property
    def whole(self) -> float:
        """||v - w|| / ||w|| of all weights w that were added."""
        return ratio(self._change, self._whole)


def report_coarse(config: CompressConfig, arguments: Sequence[str], out: str, console: Console) -> None:
    """A warning where one range a tensor will lose much, with the command that does better."""
    if not config.is_coarse:
        return
    console.print(
        "warning: one range a tensor loses much below 8 bits; one for every 64 weights, of least squares, "
        "loses several times less for little more than half a bit a weight:"
    )
    better = {
        "--granularity": "group:64",
        "--range": "mse",
        "--matrices-only": None,
        "--out": f"{out}-group64",
    }
    console.print(f"  python -m tlc_jax.compress {cli.changed(arguments, better)}", soft_wrap=True)


def report_undivided(rules: Mapping[str, Rule], console: Console) -> None:
    """Says which tensors have one range a row in place of groups."""
    if names := undivided(dict(rules)):
        console.print(f"one range a row, since groups do not divide their rows: {_listed(names)}")


def report_errors(manifest: Mapping[str, Any], console: Console) -> None:
    """The relative error of the whole, and the tensors with the largest."""
    errors = {name: entry["relative_error"] for name, entry in manifest["tensors"].items()}
    worst = sorted((name for name in errors if errors[name] > 0), key=lambda name: -errors[name])[:_WORST]
    if not worst:
        console.print("every weight is as it was")
        return
    console.print(
        f"relative error (of the weights, root mean square): {manifest['relative_error']:.4f}; largest"
    )
    for name in worst:
        console.print(f"  {errors[name]:.4f}  {name}")


def report_metrics(before: Mapping[str, float], after: Mapping[str, float], console: Console) -> None:
    """A line for each set: every metric before and after."""
    sets: dict[str, list[str]] = {}
    for key, value in before.items():
        _, name, metric = key.split("/")
        sets.setdefault(name, []).append(f"{metric} {value:.4g} before, {after[key]:.4g} after")
    for name, words in sets.items():
        console.print(f"{name}: {'; '.join(words)}")


def _listed(names: Iterable[str], most: int = 5) -> str:
    """The first few, and how many more."""
    names = list(names)
    rest = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest
