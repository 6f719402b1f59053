"""Seconds from the command to the first update, with an empty and with a full cache of compiled programs.

python benchmarks/start.py --output FILE.json --times 5 -- --config quickstart
python benchmarks/start.py --output FILE.json --times 5 --package OLD -- --config quickstart

What follows -- is the command line of `train` without a run directory. Data are prepared before anything is
timed. The first update is the first line of metrics.jsonl with a training loss. Of the package this script
imports nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from about import about

ROOT = Path(__file__).parent.parent


def first_update(arguments: list[str], package: Path, folder: Path, compiled: Path) -> float:
    """Seconds until the first update of a new run."""
    workdir = folder / f"run{time.monotonic_ns()}"
    env = {**os.environ, "PYTHONPATH": str(package), "JAX_PLATFORMS": "cpu", "HOME": str(folder)}
    env |= {"JAX_COMPILATION_CACHE_DIR": str(compiled)}
    command = [
        sys.executable,
        "-m",
        "tlc_jax.train",
        *arguments,
        "--log-every",
        "1",
        "--workdir",
        str(workdir),
    ]
    began = time.monotonic()
    with subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, cwd=folder) as process:
        metrics = workdir / "metrics.jsonl"
        while not (metrics.is_file() and "train/loss" in metrics.read_text(encoding="utf-8")):
            if process.poll() is not None:
                sys.exit(f"{' '.join(command)} ended with {process.returncode}")
            time.sleep(0.02)
        seconds = time.monotonic() - began
        process.send_signal(signal.SIGKILL)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--package", type=Path, default=ROOT)
    parser.add_argument("arguments", nargs="+")
    args = parser.parse_args()
    package = args.package.resolve()
    with tempfile.TemporaryDirectory() as name:
        folder, times = Path(name), {"cold": list[float](), "warm": list[float]()}
        first_update(args.arguments, package, folder, folder / "first")  # prepares the data
        for number in range(args.times):
            for kind in times:
                times[kind].append(
                    first_update(args.arguments, package, folder, folder / f"compiled{number}")
                )
            print({kind: round(seconds[-1], 2) for kind, seconds in times.items()}, flush=True)
    results: dict[str, Any] = {
        kind: {"median": statistics.median(seconds), "all": seconds} for kind, seconds in times.items()
    }
    commit = subprocess.run(
        ["git", "-C", package, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True
    )
    about_package = {"package": commit.stdout.strip()}
    args.output.write_text(json.dumps({**about(), **about_package, "seconds": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
