"""The errors of compression for a person: tables, and figure 9 of the paper beside a picture of the
choices."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from rich.table import Table

from tlc_jax.config.study_options import ErrorsConfig
from tlc_jax.core.json_text import json_text
from tlc_jax.storage.paths import AnyPath, parse_path, write_text
from tlc_jax.storage.writable import check_writable
from tlc_jax.studies.compression_errors import BITS, measure_errors
from tlc_jax.studies.picture import check_picture, plain, save
from tlc_jax.studies.result_store import Results
from tlc_jax.studies.results import Result
from tlc_jax.training.view import make_console


def report_errors(config: ErrorsConfig) -> None:
    """Measures, prints tables and draws."""
    picture, console = parse_path(config.output), make_console()
    check_picture(picture)
    numbers = picture.with_suffix(".jsonl")
    check_writable(numbers, "beside --output")
    found = measure_errors(config, console)
    write_text(numbers, "".join(f"{json_text(result)}\n" for result in found.results))
    console.print(*tables(found), sep="\n")
    draw_errors(found, picture)
    console.print(f"drawn in {picture}, numbers in {numbers}")


def tables(store: Results) -> Iterator[Table]:
    """One of modules, one of choices, each with a column (or a line) a run."""
    runs = _runs(store.results)
    for kind in ("quantize", "prune"):
        own = store.find(kind=kind)
        for what in dict.fromkeys(result.get("range") for result in own):
            table = Table(title=_title(own[0], what), caption="mean (variance) over the layers")
            table.add_column("module")
            for _, model in runs:
                table.add_column(f"{model}: |v - w|", justify="right")
                table.add_column("||v - w|| / ||w||", justify="right")
            for module in dict.fromkeys(result["module"] for result in own):
                cells = []
                for run, _ in runs:
                    found = store.find(kind=kind, range=what, run=run, module=module)
                    cells += (
                        [_spread(found[0], key) for key in ("absolute", "relative")] if found else ["", ""]
                    )
                table.add_row(module, *cells)
            yield table
    yield _choices(store, runs)


def _runs(results: list[Result]) -> list[tuple[str, str]]:
    """Runs and what to call them: by size, and where two are of one size by name too."""
    models = dict.fromkeys((result["run"], result["model"]) for result in results)
    sizes = [model for _, model in models]
    return [(run, model if sizes.count(model) == 1 else f"{model} {run}") for run, model in models]


def _choices(store: Results, runs: list[tuple[str, str]]) -> Table:
    table = Table(
        title="||v - w|| / ||w|| of all weights, bits a weight", caption="every parameter quantized"
    )
    for heading in ("model", "granularity", "range", *(f"{bits} bits" for bits in BITS)):
        table.add_column(heading, justify="right" if heading[0].isdigit() else "left")
    for run, model in runs:
        own = store.find(kind="grid", run=run)
        for granularity, how in dict.fromkeys((r["granularity"], r["range"]) for r in own):
            line = [r for r in own if (r["granularity"], r["range"]) == (granularity, how)]
            table.add_row(model, granularity, how, *map(_cell, line))
    return table


def _cell(result: Result) -> str:
    worth = [f"{key.split('/')[-1]} {x:.4g}" for key, x in result.items() if key.startswith("eval/")]
    return "\n".join([f"{result['relative_error']:.4f}  {result['bits_per_weight']:.2f}", *worth])


def _title(result: Result, how: str | None) -> str:
    if result["kind"] == "prune":
        return f"pruned to {100 * result['sparsity']:g} %, the smallest of all"
    return f"quantized to {result['bits']} bits, range {how}"


def _spread(result: Result, key: str) -> str:
    return f"{result[f'{key}_mean']:.2e} ({result[f'{key}_variance']:.1e})"


def draw_errors(store: Results, path: AnyPath) -> None:
    """Figure 9 (errors of each module class, models side by side), and error over bits a weight."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15, 5.5), layout="constrained")
    left, middle, right = figure.subplots(1, 3, width_ratios=(1, 1, 1.2))
    quantized, pruned = store.find(kind="quantize", range="minmax"), store.find(kind="prune")
    modules = list(dict.fromkeys(result["module"] for result in quantized))
    _bars(left, quantized, modules, f"{quantized[0]['bits']} bits, min/max (paper)")
    _bars(middle, pruned, modules, _title(pruned[0], None))
    left.set_yticks(
        range(len(modules)), [m.removeprefix("encoder/").removeprefix("layers/") for m in modules], fontsize=7
    )
    middle.set_yticks([])
    middle.legend(fontsize=8, loc="upper right")  # beside the head, which is not pruned
    _curves(right, store.find(kind="grid"))
    save(figure, path)


def _bars(axes: Any, results: list[Result], modules: list[str], title: str) -> None:
    runs = _runs(results)
    for number, (run, model) in enumerate(runs):
        own = [r for r in results if r["run"] == run]
        aside = (number - (len(runs) - 1) / 2) * 0.8 / len(runs)
        axes.barh(
            [modules.index(r["module"]) + aside for r in own],
            [r["absolute_mean"] for r in own],
            0.8 / len(runs),
            xerr=[math.sqrt(r["absolute_variance"]) for r in own],
            label=plain(model),
        )
    axes.set_ylim(len(modules) - 0.5, -0.5)
    axes.set(title=title, xlabel="mean |v - w|, over layers +- standard deviation")


def _curves(axes: Any, results: list[Result]) -> None:
    """Of the last run: the others look alike."""
    run = results[-1]["run"]
    styles = {"minmax": "-", "percentile:0.1": "--", "mse": ":"}
    for number, granularity in enumerate(dict.fromkeys(r["granularity"] for r in results)):
        for how, style in styles.items():
            line = [r for r in results if (r["run"], r["granularity"], r["range"]) == (run, granularity, how)]
            places = [r["bits_per_weight"] for r in line], [r["relative_error"] for r in line]
            axes.plot(*places, style, marker="o", ms=3, color=f"C{number}", label=f"{granularity}, {how}")
    axes.set(yscale="log", xlabel="bits a weight", ylabel="||v - w|| / ||w||")
    axes.set_title(f"{plain(results[-1]['model'])}: range and granularity")
    axes.legend(fontsize=8)
