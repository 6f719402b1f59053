"""What a code for zero costs or saves: every quantizer with both forms of zero, on runs that exist.

    python benchmarks/zero.py RUN RUN --output OUTPUT

Quantizes every parameter of each run to 8, 6, 5, 4, 3 and 2 bits with each range and granularity, once with
the paper's grid, which begins at the smallest weight (zero `float`), and once with one that is moved so that
zero is a code (`nudged`); evaluates each on the set that the run was tuned on. Writes OUTPUT.jsonl, a line a
quantizer, and OUTPUT.md, which also says of each run what counts of tokens reach on the same set.

Cost: 108 evaluations a run.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from about import about
from rich.console import Console

from tlc_jax.config.report_options import ErrorsConfig
from tlc_jax.core.json_text import json_text
from tlc_jax.inference.model_with_data import load_with_data
from tlc_jax.studies.compression_errors import BITS, ZEROS, measure_errors
from tlc_jax.studies.measured import GATES
from tlc_jax.studies.rows import Result, Results

RANGES = {"minmax": "min/max", "mse": "least squares"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", nargs="+")
    parser.add_argument("--output", type=Path, required=True)
    args, console = parser.parse_args(), Console(stderr=True)
    results = measure_errors(ErrorsConfig(tuple(args.run), evaluate=True), console)
    gates = {Path(run).name: gate(run, console) for run in args.run}
    grid = [{**result, "run": Path(result["run"]).name} for result in results.find(kind="grid")]
    args.output.with_suffix(".jsonl").write_text("".join(f"{json_text(result)}\n" for result in grid))
    command = " ".join(["python benchmarks/zero.py", *(Path(run).name for run in args.run)])
    facts = about()
    page = [
        "# Both forms of zero",
        "",
        f"    {command} --output {args.output.name}",
        "",
        f"Commit {facts['commit']}, {facts['date']}, {facts['machine']}. Nats per byte on the set that each",
        "run was tuned on, in brackets the relative error of all weights; `float` is the paper's grid,",
        "`nudged` has a code for zero. The last column is what ranges add to each weight.",
        *tables(Results(grid), gates),
    ]
    args.output.with_suffix(".md").write_text("\n".join([*page, ""]))


def gate(run: str, console: Console) -> str:
    """What counts of tokens reach on the set that the run was tuned on, and after how many updates it is."""
    model = load_with_data(run, console)
    tuned_on = model.task.evaluation_sets()[0]
    [(name, nats)] = (
        (key.split("/")[-1].removesuffix("_nats_per_byte"), value)
        for key, value in model.task.baselines().items()
        if key.startswith(f"{tuned_on}/") and key.endswith("_nats_per_byte")
    )
    return f"After {model.step:,} updates; on the same set the {GATES[name]} has {nats:.4f}."


def tables(store: Results, gates: dict[str, str]) -> list[str]:
    """For each run nats per byte, and in brackets the relative error of all weights."""
    lines = []
    for run, model in dict.fromkeys((result["run"], result["model"]) for result in store.results):
        lines += ["", f"## {run}, {model}", "", gates[run], ""]
        lines += [f"| range, zero | {' | '.join(f'{bits} bits' for bits in BITS)} | ranges, bits a weight |"]
        lines += ["|---" * (len(BITS) + 2) + "|"]
        for granularity in dict.fromkeys(result["granularity"] for result in store.find(run=run)):
            for how in RANGES:
                for zero in ZEROS:
                    line = store.find(run=run, granularity=granularity, range=how, zero=zero)
                    papers = " (paper)" if (granularity, how, zero) == ("tensor", "minmax", "float") else ""
                    more = [result["bits_per_weight"] - result["bits"] for result in line]
                    title = f"{granularity}, {RANGES[how]}, {zero}{papers}"
                    cells = [title, *map(cell, line), f"{min(more):.2f} to {max(more):.2f}"]
                    lines.append(f"| {' | '.join(cells)} |")
    return lines


def cell(result: Result) -> str:
    (nats,) = (value for name, value in result.items() if name.endswith("/nats_per_byte"))
    return f"{nats:.4f} ({result['relative_error']:.3f})"


if __name__ == "__main__":
    main()
