"""What a code for zero costs or saves: every quantizer with both forms of zero, on runs that exist.

    python benchmarks/zero.py RUN RUN --output OUTPUT

Quantizes every parameter of each run to 8, 6, 5, 4, 3 and 2 bits with each range and granularity, once with
the paper's grid, which begins at the smallest weight (zero `float`), and once with one that is moved so that
zero is a code (`nudged`); evaluates each on the set that the run was tuned on. Writes OUTPUT.jsonl, a line a
quantizer, and OUTPUT.md.

Cost: 108 evaluations a run.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from about import about
from rich.console import Console

from tlc_jax.config.study_options import ErrorsConfig
from tlc_jax.core.json_text import json_text
from tlc_jax.studies.compression_errors import BITS, ZEROS, measure_errors
from tlc_jax.studies.rows import Result, Results

RANGES = {"minmax": "min/max", "mse": "least squares"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", nargs="+")
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    results = measure_errors(ErrorsConfig(tuple(args.run), evaluate=True), Console(stderr=True))
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
        *tables(Results(grid)),
    ]
    args.output.with_suffix(".md").write_text("\n".join([*page, ""]))


def tables(store: Results) -> list[str]:
    """For each run nats per byte, and in brackets the relative error of all weights."""
    lines = []
    for run, model in dict.fromkeys((result["run"], result["model"]) for result in store.results):
        lines += ["", f"## {run}, {model}", ""]
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
