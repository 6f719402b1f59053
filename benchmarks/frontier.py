"""Files that trained_methods.py has made beside published models, by bytes.

    python benchmarks/frontier.py --sst2 RESULT.json [...] [--mnli RESULT.json [...]] --output PAGE.md

The page is that of `python -m tlc_jax.report frontier`, which knows studies alone. RESULT.json is what
trained_methods.py wrote. An interval is over its runs, or, of a single one, Wilson's over the examples.
Nothing is chosen: every file has its point. Notes in a file RESULT.notes.md end the page.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import scipy.stats
from about import about

from tlc_jax.core.printable import counted
from tlc_jax.storage.paths import parse_path
from tlc_jax.studies.picture import Rows
from tlc_jax.studies.published_frontier import write_frontier_page
from tlc_jax.studies.statistics import interval

_NAMES = {"sst2": "glue/sst2", "mnli": "glue/mnli"}
_SAID = (
    "Bytes of ours are those of the whole file of weights (uncompressed: of its float32 weights). An "
    "interval is over runs where there are several, and else over the "
    "examples, which says nothing of other runs."
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    for task in _NAMES:
        parser.add_argument(f"--{task}", nargs="+", type=Path, default=[], metavar="RESULT.json")
    parser.add_argument("--output", required=True)
    args = parser.parse_args()
    paths = [(name, path) for task, name in _NAMES.items() for path in getattr(args, task)]
    results = [(name, path, json.loads(path.read_text("utf-8"))) for name, path in paths]
    rows = [row for name, path, result in results for row in rows_of(name, path.stem, result)]
    made = [of_result(path, result) for _, path, result in results]
    write_frontier_page(parse_path(args.output), rows, about()["command"], _SAID, made)


def rows_of(task: str, name: str, result: dict[str, Any]) -> Rows:
    """The uncompressed runs and every file; what only a round keeps is none."""
    files = [row for row in result["rows"] if "file_bytes" in row]
    whole = max(row["float32_bytes"] for row in files)  # some methods leave tokens out
    dense = {"method": "uncompressed", "accuracy": result["dense"], "file_bytes": [whole]}
    return [
        {
            "task": task,
            "number": None,
            "model": f"{name}: {row['method']}",
            "series": name,
            "megabytes": float(np.mean(row["file_bytes"])) / 1e6,
            "stored": "float32" if row is dense else "file",
            "percent": 100 * float(np.mean(row["accuracy"])),
            "interval": ends(row["accuracy"], result["examples"]),
            "set": "development",
            "source": counted(len(row["accuracy"]), "run"),
        }
        for row in sorted((dense, *files), key=lambda row: np.mean(row["file_bytes"]))
    ]


def ends(accuracy: list[float], examples: int) -> tuple[float, float]:
    """In percent."""
    if (over_runs := interval(100 * np.array(accuracy))) is not None:
        return over_runs
    right = round(accuracy[0] * examples)
    covered = scipy.stats.binomtest(right, examples).proportion_ci(method="wilson")
    return 100 * covered.low, 100 * covered.high


def of_result(path: Path, result: dict[str, Any]) -> str:
    """How a result was made, and its notes."""
    made = ", ".join(result[key] for key in ("commit", "date", "machine", "device"))
    notes = path.with_suffix(".notes.md")
    said = [notes.read_text("utf-8").strip()] if notes.exists() else []
    text = f"Commit {made}; {result['examples']:,} examples."
    return "\n\n".join([f"## How {path.stem} was made", f"    {result['command']}", text, *said])


if __name__ == "__main__":
    main()
