"""Does a long input need more memory? Peak of `translate` with 2,000, 20,000 and 200,000 lines.

    python benchmarks/long_input.py MODEL TEXT --output docs/results/long_input

MODEL is a translation model, TEXT has a sentence on each line, 200,000 of them. Translation is greedy; the
peak is that of the resident set as the system counts it (getrusage, what /usr/bin/time -v shows). As many
lines have to come out as went in. Each number of lines is translated twice, at first with an empty cache of
compiled programs, which those of the numbers before fill: shapes of batches follow the lines.

Cost: with a model of 1x32 a quarter of an hour of one CPU core.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path
from typing import Any

from about import about
from memory_at_use import LAUNCHER

COUNTS = (2_000, 20_000, 200_000)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("text", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as cache:
        os.environ["JAX_COMPILATION_CACHE_DIR"] = cache
        rows = [[measured(args.model, args.text, count) for _ in range(2)] for count in COUNTS]
    result = {**about(), "rows": rows}
    args.output.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    args.output.with_suffix(".md").write_text(document(result), encoding="utf-8")


def measured(model: str, text: Path, count: int) -> dict[str, Any]:
    """Peak and seconds of a translation of the first so many lines."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "source", Path(folder) / "target"
        with text.open("rb") as lines:
            source.write_bytes(b"".join(itertools.islice(lines, count)))
        given = source.read_bytes().count(b"\n")
        translate = [sys.executable, "-m", "tlc_jax.translate", model, "--beams", "1"]
        to_target = ["sh", "-c", 'exec "$@" > "$0"', str(target), *translate]
        began = time.perf_counter()
        with source.open("rb") as lines:
            done = subprocess.run(
                [sys.executable, "-c", LAUNCHER, *to_target], stdin=lines, capture_output=True
            )
        seconds = time.perf_counter() - began
        if done.returncode:
            raise SystemExit(done.stderr.decode())
        answered = target.read_bytes().count(b"\n")
    if answered != given:
        raise SystemExit(f"{given:,} lines have {answered:,} answers")
    row = {"lines": given, "peak_mb": int(done.stdout) * 1024 / 1e6, "seconds": seconds}
    print(json.dumps(row), flush=True)
    return row


def document(result: dict[str, Any]) -> str:
    """The table, below how it was made."""
    text = (
        f"{result['commit']}, {result['date']}, {result['machine']}. Greedy translation of so many lines, as "
        "many of which come out. The first time, shapes of batches are compiled that no row above had."
    )
    lines = [
        "# Long inputs",
        "",
        f"    {result['command']}",
        "",
        textwrap.fill(text, 120),
        "",
        "| lines | peak, MB, first | again | seconds, first | again |",
        "|---|---|---|---|---|",
        *map(line, result["rows"]),
    ]
    return "\n".join([*lines, ""])


def line(first_and_again: list[dict[str, Any]]) -> str:
    cells = [f"{each[name]:.0f}" for name in ("peak_mb", "seconds") for each in first_and_again]
    return f"| {first_and_again[0]['lines']:,} | {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
