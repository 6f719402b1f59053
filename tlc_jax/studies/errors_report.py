"""The report of compression errors: tables, and a picture with the paper's figure 9 and the error over bits
per weight of each granularity and range."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from rich.table import Table

from tlc_jax.config.report_options import ErrorsConfig
from tlc_jax.core.json_text import json_text
from tlc_jax.storage.paths import AnyPath, parse_path, write_text
from tlc_jax.storage.writable import check_writable
from tlc_jax.studies.compression_errors import ALL, BITS, measure_errors
from tlc_jax.studies.picture import check_picture, colours, plain, save
from tlc_jax.studies.rows import Result, Results
from tlc_jax.training.view import make_console

if TYPE_CHECKING:  # slow to import
    from matplotlib.figure import Figure

PAPER = ("tensor", "minmax", "float")
"""Granularity, range and zero of the paper's quantizer (4.2)."""


def report_errors(config: ErrorsConfig) -> None:
    """Measure the errors, print them as tables and draw them."""
    picture, console = parse_path(config.output), make_console()
    check_picture(picture)
    numbers = picture.with_suffix(".jsonl")
    check_writable(numbers, "beside --output")
    store = measure_errors(config, console)
    write_text(numbers, "".join(f"{json_text(result)}\n" for result in store.results))
    console.print(*tables(store), *sentences(store), sep="\n")
    draw_errors(store, picture)
    console.print(f"picture: {picture}, numbers: {numbers}")


def tables(store: Results) -> Iterator[Table]:
    """One table per kind of compression with a row per module, and one of all settings, for each run."""
    runs = _runs(store.results)
    for kind in ("quantize", "prune"):
        results = store.find(kind=kind)
        for how in dict.fromkeys(result.get("range") for result in results):
            title = _title(store.find(kind=kind, range=how)[0], how)
            table = Table(title=title, caption="mean (variance) over the layers; below it before training")
            table.add_column("module")
            for _, model in runs:
                table.add_column(f"{model}: |v - w|", justify="right")
                table.add_column("||v - w|| / ||w||", justify="right")
            for module in dict.fromkeys(result["module"] for result in results):
                cells = []
                for run, _ in runs:
                    of_module = store.find(kind=kind, range=how, run=run, module=module)
                    cells += [_trained_and_not(of_module, key) for key in ("absolute", "relative")]
                table.add_row(module, *cells)
            yield table
    yield _grid(store, runs)


def _runs(results: list[Result]) -> list[tuple[str, str]]:
    """Runs with their labels: the size and, where several runs share it, also the run."""
    models = dict.fromkeys((result["run"], result["model"]) for result in results)
    sizes = [model for _, model in models]
    return [(run, model if sizes.count(model) == 1 else f"{model} {run}") for run, model in models]


def _grid(store: Results, runs: list[tuple[str, str]]) -> Table:
    table = Table(
        title="||v - w|| / ||w|| of all weights, bits per weight", caption="every parameter quantized"
    )
    for heading in ("model", "granularity", "range", "zero", *(f"{bits} bits" for bits in BITS)):
        table.add_column(heading, justify="right" if heading[0].isdigit() else "left")
    for run, model in runs:
        results = store.find(kind="grid", run=run)
        for names in dict.fromkeys((r["granularity"], r["range"], r["zero"]) for r in results):
            line = [r for r in results if (r["granularity"], r["range"], r["zero"]) == names]
            granularity, how, zero = names
            papers = " (paper)" if names == PAPER else ""
            table.add_row(model, granularity, how, f"{zero}{papers}", *map(_cell, line))
    return table


def _cell(result: Result) -> str:
    metrics = [f"{key.split('/')[-1]} {x:.4g}" for key, x in result.items() if key.startswith("eval/")]
    return "\n".join([f"{result['relative_error']:.4f}  {result['bits_per_weight']:.2f}", *metrics])


def _title(result: Result, how: str | None) -> str:
    if result["kind"] == "prune":
        return f"smallest {100 * result['sparsity']:g} % of all weights pruned"
    papers = " (paper)" if ("tensor", how, result["zero"]) == PAPER else ""
    return f"quantized to {result['bits']} bits, range {how}, zero {result['zero']}{papers}"


def sentences(store: Results) -> Iterator[str]:
    """What changes from the first model to the last, and what of it is left after the same change in networks
    before their first update is taken away; nothing for a single model."""
    (first, small), *others = _runs(store.results)
    if not others:
        return
    last, large = others[-1]
    for kind, how in (("quantize", "minmax"), ("quantize", "mse"), ("prune", None)):
        for key, words in (("absolute", "|v - w|"), ("relative", "||v - w|| / ||w||")):
            results = store.find(kind=kind, range=how, module=ALL)
            mean = {(r["run"], r["untrained"]): r[f"{key}_mean"] for r in results}
            trained, before = (mean[last, flag] / mean[first, flag] for flag in (False, True))
            yield (
                f"{_title(results[0], how)}: {words} of {large} is {trained:.2f} of that of {small}, and "
                f"before training {before:.2f}; a factor of {trained / before:.2f} is left to training"
            )


def _trained_and_not(results: list[Result], key: str) -> str:
    """The error of a module with that before training below it; '' where the model has no such module."""
    ordered = sorted(results, key=lambda result: result["untrained"])
    return "\n".join(_spread(result, key) for result in ordered)


def _spread(result: Result, key: str) -> str:
    return f"{result[f'{key}_mean']:.2e} ({result[f'{key}_variance']:.1e})"


def draw_errors(store: Results, path: AnyPath) -> None:
    """Draw figure 9 (errors of each module class, models side by side) and the error over bits per weight."""
    with colours():
        save(_errors_figure(store), path)


def _errors_figure(store: Results) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15, 5.5), layout="constrained")
    left, middle, right = figure.subplots(1, 3, width_ratios=(1, 1, 1.2))
    quantized, pruned = store.find(kind="quantize", range="minmax"), store.find(kind="prune")
    modules = list(dict.fromkeys(result["module"] for result in quantized))
    _bars(left, quantized, modules, _title(quantized[0], "minmax"))
    _bars(middle, pruned, modules, _title(pruned[0], None))
    left.set_yticks(
        range(len(modules)), [m.removeprefix("encoder/").removeprefix("layers/") for m in modules], fontsize=7
    )
    middle.set_yticks([])
    middle.legend(fontsize=8, loc="upper right")  # beside the head, which is not pruned
    _curves(right, store.find(kind="grid"))
    return figure


def _bars(axes: Any, results: list[Result], modules: list[str], title: str) -> None:
    runs = _runs(results)
    for number, (run, model) in enumerate(runs):
        height, offset = 0.8 / len(runs), (number - (len(runs) - 1) / 2) * 0.8 / len(runs)
        for before in (False, True):
            bars = [r for r in results if (r["run"], r["untrained"]) == (run, before)]
            at = [modules.index(r["module"]) + offset for r in bars]
            means = [r["absolute_mean"] for r in bars]
            if before:
                label = "before training" if number == len(runs) - 1 else None
                axes.barh(at, means, height, fill=False, edgecolor="black", linewidth=0.7, label=label)
            else:
                spread = [math.sqrt(r["absolute_variance"]) for r in bars]
                axes.barh(at, means, height, xerr=spread, label=plain(model), color=f"C{number}")
    axes.set_ylim(len(modules) - 0.5, -0.5)
    axes.set(xlabel="mean |v - w|; lines: ± standard deviation over layers")
    axes.set_title(title, fontsize=9)


def _curves(axes: Any, results: list[Result]) -> None:
    """The last run only: the others look alike. Zero is a code, but for the paper's quantizer."""
    run = results[-1]["run"]
    results = [result for result in results if result["run"] == run]
    styles = {"minmax": "-", "percentile:0.1": "--", "mse": ":"}
    for number, granularity in enumerate(dict.fromkeys(r["granularity"] for r in results)):
        for how, style in styles.items():
            line = _points(results, run, (granularity, how, "nudged"))
            label = f"{granularity}, {how}"
            axes.plot(*line, style, marker="o", ms=3, color=f"C{number}", label=label)
    axes.plot(*_points(results, run, PAPER), "-", marker="x", ms=5, color="0.3", label="the paper's")
    axes.set(yscale="log", xlabel="bits per weight", ylabel="||v - w|| / ||w||")
    axes.set_title(f"{plain(results[-1]['model'])}: range and granularity")
    axes.legend(fontsize=8)


def _points(results: list[Result], run: str, names: tuple[str, str, str]) -> tuple[list[float], list[float]]:
    """Bits a weight and relative errors of a quantizer, by its granularity, range and zero."""
    line = [r for r in results if (r["run"], r["granularity"], r["range"], r["zero"]) == (run, *names)]
    return [r["bits_per_weight"] for r in line], [r["relative_error"] for r in line]
