"""One trunk and its branches against runs of their own budgets: what do the branches lose?

    python benchmarks/trunk.py --work W --text TEXT --output OUT.json [--seconds 400]

2x128 on TEXT (.txt, .txt.gz, .txt.zst), vocabulary 4,096. The trunk keeps marks at 1/2, 3/4 and 1 of its
training seconds, and a branch finishes each. For each budget two runs alone: one with the branch's own
schedule (stable, then 20 % cool-down), one with the paper's linear decay over the whole budget. Warm-up and
local attention last as many seconds everywhere. Every part is a command of the package; what is finished is
not repeated, what was interrupted goes on.

Cost: 6 times the trunk's seconds, 40 minutes; leave the cores that it runs on alone.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from about import about

MARKS = {"1/2": 0.5, "3/4": 0.75, "1": 1.0}
WARMUP, LOCAL_ATTENTION = 0.03, 0.4  # of the trunk's seconds; less of it and none leaves the plateau


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    for name in ("work", "text", "output"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=400.0)
    parser.add_argument("--cache", type=Path)
    args = parser.parse_args()
    data = ["--data.name", "files", "--data.dir", args.text, "--data.held-out", 0.005]
    data += ["--evaluation.per-run", "None", "--optimizer.learning-rate", "2e-3"]
    data += ["--data.cache-dir", args.cache] if args.cache else []

    def alone(folder: str, share: float, cooldown: object, *more: object) -> dict[str, Any]:
        schedule = [
            *("--schedule.warmup", WARMUP / share, "--schedule.local-attention", LOCAL_ATTENTION / share),
            *("--schedule.cooldown", cooldown, "--budget.training-seconds", args.seconds * share),
        ]
        train(args.work / folder, "--config", "quickstart", *data, *schedule, *more)
        return last(args.work / folder)

    trunk = alone("trunk", 1.0, 0, "--checkpoint.marks", ",".join(MARKS))
    found: list[dict[str, Any]] = []
    for mark, share in MARKS.items():
        name = mark.replace("/", "_")
        train(args.work / f"branch_{name}", "--branch-from", f"{args.work / 'trunk'}@{mark}")
        found.append(
            {
                "mark": mark,
                "training_seconds": args.seconds * share,
                "trunk_itself": at_mark(args.work / "trunk", mark),
                "branch": last(args.work / f"branch_{name}"),
                "alone_same_schedule": alone(f"same_{name}", share, 0.2),
                "alone_linear_decay": alone(f"linear_{name}", share, None),
            }
        )
        result = {
            **about(),
            "trunk": trunk,
            "marks": found,
        }
        args.output.write_text(json.dumps(result, indent=1) + "\n")


def train(workdir: Path, *options: object) -> None:
    command = [sys.executable, "-m", "tlc_jax.train", "--workdir", str(workdir), *map(str, options)]
    done = subprocess.run(command, check=False)
    if done.returncode:
        sys.exit(done.returncode)


def evaluations(workdir: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if "eval/held_out/perplexity" in line]


def short(line: dict[str, Any]) -> dict[str, Any]:
    return {"step": line["step"], "perplexity": round(line["eval/held_out/perplexity"], 3)}


def last(workdir: Path) -> dict[str, Any]:
    return short(evaluations(workdir)[-1])


def at_mark(workdir: Path, mark: str) -> dict[str, Any]:
    return short(next(line for line in evaluations(workdir) if mark in line.get("marks", [])))


if __name__ == "__main__":
    main()
