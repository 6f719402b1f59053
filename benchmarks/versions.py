"""The fast tests under one Python and jax: adds their row to a table.

    python benchmarks/versions.py --output docs/results/versions

Run it once with the Python of each environment, in a checkout that is installed there
(`pip install -e '.[test]' 'jax==0.12.*'`). Written are OUTPUT.json, with a row for each environment, and
OUTPUT.md, the table, in which combinations that have no row stand as untried.

Cost: two minutes on two quiet cores.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import platform
import subprocess
import sys
import tempfile
import textwrap
import time
import xml.etree.ElementTree
from pathlib import Path
from typing import Any

from about import about

ROOT = Path(__file__).parent.parent
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
JAX = ("0.10", "0.11", "0.12")
NEEDS_312 = ("0.11", "0.12")  # no wheels for older Pythons
PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
TESTS = ["-m", "pytest", "-n", "2", "-m", "not slow"]


def fast_tests() -> dict[str, Any]:
    """Runs them with this Python; their number by result, and the seconds."""
    with tempfile.TemporaryDirectory() as folder:
        report, began = Path(folder) / "report.xml", time.monotonic()
        subprocess.run([sys.executable, *TESTS, f"--junitxml={report}"], cwd=ROOT)
        seconds = time.monotonic() - began
        [suite] = xml.etree.ElementTree.parse(report).getroot().iter("testsuite")
        count = {name: int(suite.get(name, 0)) for name in ("tests", "failures", "errors", "skipped")}
    failed = count["failures"] + count["errors"]
    return {
        "passed": count["tests"] - failed - count["skipped"],
        "failed": failed,
        "skipped": count["skipped"],
        "seconds": round(seconds),
    }


def versions() -> dict[str, str]:
    return {
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in PACKAGES},
    }


def document(rows: list[dict[str, Any]], command: str) -> str:
    """The table for people, sorted by version."""
    machines = ", ".join(sorted({row["machine"] for row in rows}))
    text = (
        'The fast tests (`python -m pytest -n 2 -m "not slow"`) in an environment of each Python and jax, '
        f"on Linux, {machines}, beside other work. All versions are in `versions.json`. Neither macOS nor "
        "Windows has been tried."
    )
    lines = ["# Versions that were tried", "", f"    {command}", "", textwrap.fill(text, 120), ""]
    lines += [
        "| Python | jax | passed | failed | skipped | time | date | commit |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for python in PYTHONS:
        for jax in JAX:
            named = [row for row in rows if is_of(row["python"], python) and is_of(row["jax"], jax)]
            lines += [line(row) for row in sorted(named, key=lambda row: row["jax"])]
            if not named and not (python == "3.11" and jax in NEEDS_312):
                lines.append(f"| {python} | {jax} | untried | | | | | |")
    lines += ["", f"jax {' and '.join(NEEDS_312)} need Python 3.12 or newer."]
    return "\n".join(lines) + "\n"


def line(row: dict[str, Any]) -> str:
    minutes = f"{row['seconds'] // 60} min {row['seconds'] % 60:02d} s"
    cells = (row["python"], row["jax"], row["passed"], row["failed"], row["skipped"], minutes)
    return f"| {' | '.join(map(str, cells))} | {row['date']} | {row['commit']} |"


def is_of(version: str, minor: str) -> bool:
    return version.split(".")[:2] == minor.split(".")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    row = {**versions(), **fast_tests(), **about()}
    command = row.pop("command")
    stored = args.output.with_suffix(".json")
    before = json.loads(stored.read_text()) if stored.exists() else []
    rows = [other for other in before if (other["python"], other["jax"]) != (row["python"], row["jax"])]
    rows = sorted([*rows, row], key=lambda row: (row["python"], row["jax"]))
    stored.write_text(json.dumps(rows, indent=1) + "\n")
    args.output.with_suffix(".md").write_text(document(rows, command))


if __name__ == "__main__":
    main()
