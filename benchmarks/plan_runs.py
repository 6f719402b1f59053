"""What `plan` answered on one machine, and what trainings of its sizes have reached.

    python benchmarks/plan_runs.py docs/results/plan_runs --output docs/results/plan_runs.md [--runs RUN ...]

The folder holds a file NAME.json for each plan, its plan.json. A training belongs to a plan if it has as many
updates, or as many seconds, as that has planned for its size. Beside a RUN, a folder RUN-BITSbits may hold it
compressed, and RUN-BITSbits.evaluate.json what `evaluate --json` says of that: both are of the plan, too.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from about import about

from tlc_jax.artifacts.artifact import WEIGHTS
from tlc_jax.core.printable import three_digits
from tlc_jax.storage.paths import parse_path
from tlc_jax.storage.run_directory import RunDir
from tlc_jax.studies.item_store import Row
from tlc_jax.studies.markdown_page import as_markdown
from tlc_jax.studies.page.plan_part import obtained_sentences, obtained_table
from tlc_jax.studies.plan_record import Plan, PlannedRecipe, predicted_and_obtained, read_plan
from tlc_jax.studies.plan_text import answer, plan_table, recipe_text
from tlc_jax.studies.planner import MEGABYTE

NOTES = "notes.md"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--runs", nargs="*", default=[])
    args = parser.parse_args()
    made = about()
    parts = ["# What plans said, and what came of them", f"    {made['command']}"]
    if (args.folder / NOTES).exists():
        parts.append((args.folder / NOTES).read_text(encoding="utf-8").strip())
    for path in sorted(args.folder.glob("*.json")):
        plan = read_plan(parse_path(str(path)))
        parts += of_plan(path.stem, plan, [RunDir(parse_path(run)) for run in args.runs])
    args.output.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def of_plan(name: str, plan: Plan, runs: list[RunDir]) -> list[str]:
    bullets = [answer(plan), *plan.notes]
    parts = [f"## {name.replace('_', ' ')}", as_markdown(plan_table(plan)), _listed(bullets)]
    if obtained := [row for run in runs for row in of_run(plan, run)]:
        parts += [as_markdown(obtained_table(obtained)), _listed(obtained_sentences(obtained))]
        parts += of_files(plan, [run for run in runs if of_run(plan, run)])
    made = plan.made
    parts.append(f"Commit {made['commit']}, {str(made['date'])[:10]}, {plan.device}.")
    return parts


def of_run(plan: Plan, run: RunDir) -> list[Row]:
    """What was predicted and obtained of a run; nothing where it is none of this plan."""
    rows = predicted_and_obtained(plan, run)
    return [{**row, "run": run.root.name} for row in rows if row["complete"]]


def of_files(plan: Plan, runs: list[RunDir]) -> list[str]:
    """A table of the compressed files of runs: their bytes and their losses, as predicted and as obtained."""
    lines = []
    for run in runs:
        model = run.read_config().model
        [size] = [each for each in plan.sizes if each.size == f"{model.num_layers}x{model.hidden_size}"]
        for recipe in size.recipes:
            fits = recipe.sparsity == 0 and recipe.file_bytes <= MEGABYTE * plan.target_mb
            if fits and (said := _evaluation(run, recipe.bits)):
                folder, loss = _compressed(run, recipe.bits), said[f"eval/{plan.set}/{plan.metric}"]
                megabytes = [x / MEGABYTE for x in (recipe.file_bytes, (folder / WEIGHTS).stat().st_size)]
                lines.append(f"| {size.size} | {_cells(recipe, megabytes, loss)} |")
    if not lines:
        return []
    columns = "size | compressed | MB, predicted | MB, obtained"
    return [
        "\n".join(
            [
                f"| {columns} | {plan.metric}, predicted | {plan.metric}, obtained |",
                "| --- | --- | ---: | ---: | ---: | ---: |",
                *lines,
            ]
        )
    ]


def _cells(recipe: PlannedRecipe, megabytes: list[float], loss: float) -> str:
    predicted = f"{recipe.loss:.4f} [{recipe.low:.4f}, {recipe.high:.4f}]"
    cells = [recipe_text(recipe.bits, recipe.sparsity), *map(three_digits, megabytes), predicted]
    return " | ".join([*cells, f"{loss:.4f}"])


def _compressed(run: RunDir, bits: int) -> Path:
    return Path(f"{run.root}-{bits}bits")


def _evaluation(run: RunDir, bits: int) -> dict[str, Any] | None:
    path = Path(f"{_compressed(run, bits)}.evaluate.json")
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def _listed(texts: list[str]) -> str:
    return "\n".join(f"* {text}" for text in texts)


if __name__ == "__main__":
    main()
