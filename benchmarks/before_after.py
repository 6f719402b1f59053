"""Whether a change costs time: packing of text and of codes, and updates, of two checkouts in turns.

python benchmarks/before_after.py --before OLD --after . --text TEXT --output FILE.json
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from about import about

WHAT = ("pack codes", "train", "pack text")
ENGINE = Path(__file__).with_name("before_after_engine.py")


class Checkout:
    """A process that imports the package of one checkout."""

    def __init__(self, root: Path, text: Path):
        self.commit = subprocess.run(
            ["git", "-C", root, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True
        ).stdout.strip()
        self._process = subprocess.Popen(
            [sys.executable, ENGINE, text],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(root.resolve()), "JAX_PLATFORMS": "cpu"},
        )

    def turn(self, what: str) -> dict[str, float]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps({"what": what}), file=self._process.stdin, flush=True)
        return json.loads(self._process.stdout.readline())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("--before", "--after", "--text", "--output"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    both = {name: Checkout(getattr(args, name), args.text) for name in ("before", "after")}
    results: dict[str, Any] = {}
    for what in WHAT:
        turns = [{name: one.turn(what) for name, one in both.items()} for _ in range(args.rounds)]
        results[what] = {
            kind: {name: statistics.median(turn[name][kind] for turn in turns) for name in both}
            | {"ratio": statistics.median(turn["after"][kind] / turn["before"][kind] for turn in turns)}
            for kind in ("seconds", "wall")
        }
        print(what, results[what])
    commits = {name: one.commit for name, one in both.items()}
    args.output.write_text(
        json.dumps(
            {
                **about(),
                "commits": commits,
                "rounds": args.rounds,
                "results": results,
            },
            indent=1,
        )
        + "\n",
        encoding="utf-8",
    )


if __name__ == "__main__":
    main()
