"""Options of XLA's CPU compiler, and another jax: the time of one update with each.

    python benchmarks/compiler_options.py --output OUTPUT [--size 12x768x4] [--jax PYTHON]

An update is that of train_step.py, of layers x width x rows. Each option has a process of its own; they take
turns on the same cores, and a first turn, which compiles, is not timed. `nothing` is there twice: how far the
second is from the first is what this machine cannot tell apart. PYTHON is the interpreter of an environment
with another jax, which takes turns with them. Writes OUTPUT.json and OUTPUT.md: medians, and how much faster
each is than the first, with 95 % over the rounds of each round's ratio.

Runs alone: nothing else may use the machine. Cost: 12 minutes of 2 CPU cores for 12x768x4, 3 GB of memory
for each option. Export MALLOC_* and GLIBC_TUNABLES (docs/usage/train.md).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import textwrap
from pathlib import Path
from typing import Any

from about import about
from engine import Engine
from speed_table import compared, table

OPTIONS = {
    "nothing": "",
    "nothing, again": "",
    "wider vectors": "--xla_cpu_prefer_vector_width=512",
    "oneDNN": "--xla_cpu_use_onednn=true",
    "fast math": "--xla_cpu_enable_fast_math=true",
    "no YNN fusions": "--xla_cpu_experimental_ynn_fusion_type=",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="without the ending")
    parser.add_argument("--size", default="12x768x4", help="layers x width x rows")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=2, help="of a turn")
    parser.add_argument("--jax", metavar="PYTHON", help="an interpreter with another jax")
    args = parser.parse_args()
    layers, width, rows = map(int, args.size.split("x"))
    order = {"size": [layers, width, rows], "steps": args.steps}
    engines = {name: started(options) for name, options in OPTIONS.items()}
    if args.jax:
        engines["another jax"] = started("", args.jax)
    versions = {name: engine.ask({"about": True})["jax"] for name, engine in engines.items()}
    for engine in engines.values():
        engine.ask(order)
    seconds: dict[str, list[float]] = {name: [] for name in engines}
    for _ in range(args.rounds):
        for name, engine in engines.items():
            seconds[name].append(engine.turn(order)["seconds"])
    result = {**about(), "size": args.size, "jax": versions, "seconds": seconds}
    args.output.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    text = page(result)
    args.output.with_suffix(".md").write_text(text, encoding="utf-8")
    print(text)


def started(options: str, python: str = sys.executable) -> Engine:
    """Our engine of train_step.py, under these options."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} {options}".strip()
    return Engine(
        "train_step_engine.py",
        "tlc_jax",
        "float32",
        "products",
        python=python,
        variables={"XLA_FLAGS": flags},
    )


def page(result: dict[str, Any]) -> str:
    """The table for people."""
    first = next(iter(OPTIONS))
    turns = len(result["seconds"][first])
    text = (
        f"Commit {result['commit']}, {result['date']}, {result['machine']}; "
        f"jax {result['jax'][first]} unless another is named. An update of {result['size']} (layers x "
        f"width x rows) in float32. Medians over "
        f"{turns} turns; in brackets 95 % over them of each turn's ratio. `{first}` is there twice: what is "
        "between these two is not told apart."
    )
    rows = []
    for name, seconds in result["seconds"].items():
        option = OPTIONS.get(name, f"jax {result['jax'][name]}")
        both = {"tlc_jax": seconds, first: result["seconds"][first]}
        _, _, ours, _, faster, _ = compared(("update", result["size"], first), name, both, {})
        rows.append(
            (name, f"`{option}`" if option.startswith("-") else option, ours, "" if name == first else faster)
        )
    lines = table(("option", "", "seconds", f"as fast as {first}, times"), rows)
    title = "# Options of XLA's CPU compiler"
    return "\n\n".join([title, f"    {result['command']}", textwrap.fill(text, 120), lines]) + "\n"


if __name__ == "__main__":
    main()
