"""Twenty times kill -9 at random moments of one run: it must end as the run that nobody killed, bit for bit.

    python benchmarks/random_kills.py --output benchmarks/results/random_kills.json [--kills 20] [--seed 0]

A small model on the installed documentation saves every 5 steps, so that many kills fall into a save. After
each the script writes down what lay in checkpoints/; at the end it compares parameters and metrics.

Cost: about 10 minutes on 2 CPU cores.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from about import about

from tlc_jax.core import tree
from tlc_jax.models.encoder import init_mlm
from tlc_jax.runs.checkpoint import restore_model, whole_steps
from tlc_jax.storage.run_directory import RunDir
from tlc_jax.training.metrics import read_metrics

STEPS = 600
COMMAND = [
    *(sys.executable, "-m", "tlc_jax.train", "--config", "quickstart", "--model.hidden-size", "64"),
    *("--budget.steps", str(STEPS), "--budget.training-seconds", "None", "--schedule.follows", "steps"),
    *("--checkpoint.every-steps", "5", "--evaluation.per-run", "3", "--log-every", "3", "--workdir"),
]
TIMES = ("training_seconds", "total_seconds")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        unbroken, killed = Path(folder, "unbroken"), Path(folder, "killed")
        subprocess.run([*COMMAND, str(unbroken)], check=True, stdout=subprocess.DEVNULL)
        chance = random.Random(args.seed)
        kills = [kill(killed, (i + 1) * STEPS // (args.kills + 1), chance) for i in range(args.kills)]
        subprocess.run([*COMMAND, str(killed)], check=True, stdout=subprocess.DEVNULL)
        result = {
            **about(),
            "kills": kills,
            "parameters_equal": equal(parameters(unbroken), parameters(killed)),
            "metrics_equal": lines(unbroken) == lines(killed),
        }
    args.output.write_text(json.dumps(result, indent=1) + "\n")
    print(f"parameters equal: {result['parameters_equal']}, metrics equal: {result['metrics_equal']}")
    sys.exit(0 if result["parameters_equal"] and result["metrics_equal"] else 1)


def kill(workdir: Path, after: int, chance: random.Random) -> dict[str, Any]:
    """Goes on with the run, kills it some time after step `after` was saved, and says what it left."""
    process = subprocess.Popen([*COMMAND, str(workdir)], stdout=subprocess.DEVNULL)
    checkpoints = workdir / "checkpoints"
    while not any(step >= after for step in whole_steps(checkpoints)):
        assert process.poll() is None, f"the run ended by itself with {process.returncode}"
        time.sleep(0.001)
    time.sleep(chance.uniform(0.0, 0.4))
    process.kill()
    process.wait()
    whole = whole_steps(checkpoints)
    names = {path.name for path in checkpoints.iterdir()} - {str(step) for step in whole} - {"damaged"}
    text = (workdir / "metrics.jsonl").read_text()
    return {"whole_steps": whole, "unfinished": sorted(names), "torn_line": not text.endswith("\n")}


def parameters(workdir: Path) -> dict[str, np.ndarray]:
    like = jax.jit(lambda key: init_mlm(RunDir(workdir).read_config().model, key))(jax.random.key(0))
    params, _, step = restore_model(workdir / "checkpoints", like, print)
    assert step == STEPS
    return {path: np.asarray(value) for path, value in tree.flatten(params).items()}


def equal(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[path], other[path]) for path in one)


def lines(workdir: Path) -> list[dict[str, Any]]:
    found = read_metrics(workdir / "metrics.jsonl")
    return [{name: value for name, value in line.items() if name not in TIMES} for line in found]


if __name__ == "__main__":
    main()
