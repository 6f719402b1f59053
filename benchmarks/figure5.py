"""Figure 5 of the paper in miniature: BLEU over equal training time, two widths and two depths.

    python benchmarks/figure5.py --work W --data DATA --output OUT [--seconds 1200] [--seeds 100 300]

DATA holds the pairs that `TRAIN` names. First the time of an update of each size of `SIZES` is measured
(paper 2.2); leave the machine alone for that. Then each size is trained, once for each seed, for as many
updates as it does in so many seconds: a machine that is busy in the meantime makes the runs longer, and no
size worse. The recipe is that of `translate_small`, with 400 updates of warm-up in place of 1,000 (a run has
700 of the largest size on one core) to the same peak of the learning rate. What OUT.json has is not repeated,
what was interrupted goes on.

Written are OUT.json (BLEU of every evaluation over updates and minutes, that of the test set at the end, the
verdict on width against depth), and OUT.png.

Cost: 4 sizes x seeds x the seconds, and the compilation of 8 shapes of each size.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("agg")
import matplotlib.pyplot as plt
import numpy as np
import scipy.stats
from about import about

from tlc_jax.training.metrics import read_metrics

TRAIN = "multi30k_en_fr.train.tsv.gz=0.6,tatoeba_en_fr.train.tsv.gz=0.3,europarl_en_fr/shard-00.tsv.zst=0.1"
VALIDATION, TEST = "multi30k_en_fr.val.tsv.gz", "multi30k_en_fr.test2016.tsv.gz"
# depth (of either side), width: the first is what the others are wider, or deeper, than
SIZES = {"2x128": (2, 128), "2x256": (2, 256), "4x128": (4, 128), "4x256": (4, 256)}
BLEU, LOSS = "eval/multi30k_en_fr.val/greedy_bleu", "eval/multi30k_en_fr.val/loss"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    for name in ("work", "data", "output"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=1200.0)
    parser.add_argument("--seeds", type=int, nargs="+", default=[100, 300])
    parser.add_argument("--cache", type=Path)
    args = parser.parse_args()
    output, settings = args.output.with_suffix(".json"), {"seconds": args.seconds, "train": TRAIN}
    found: dict[str, Any] = json.loads(output.read_text()) if output.exists() else {**about(), **settings}
    if not settings.items() <= found.items():
        sys.exit(f"{output} is of other settings: give another --output")
    if "step_seconds" not in found:
        found["step_seconds"] = {size: step_seconds(size, args) for size in SIZES}
    runs = found.setdefault("runs", {size: [] for size in SIZES})
    for seed, size in itertools.product(args.seeds, SIZES):
        if seed not in [run["seed"] for run in runs[size]]:
            folder, seconds = args.work / f"{size}-{seed}", found["step_seconds"][size]
            train(folder, size, seed, round(args.seconds / seconds), args)
            runs[size].append({"seed": seed, **curve(folder, seconds), "test": test(folder)})
            output.write_text(json.dumps(found, indent=1) + "\n")
    found["verdict"] = verdict(runs)
    output.write_text(json.dumps(found, indent=1) + "\n")
    draw(runs, args.output.with_suffix(".png"))
    print("\n".join(found["verdict"]))


def options(size: str, args: argparse.Namespace) -> list[object]:
    depth, width = SIZES[size]
    found: list[object] = ["--config", "translate_small", "--data.max-shapes", 8]
    found += ["--model.num-layers", depth, "--model.hidden-size", width]
    found += ["--schedule.noam-steps", 400, "--optimizer.learning-rate", 0.63]
    found += ["--data.dir", args.data, "--data.train", TRAIN]
    found += ["--data.validation", VALIDATION, "--data.test", TEST]
    return found + (["--data.cache-dir", args.cache] if args.cache else [])


def step_seconds(size: str, args: argparse.Namespace) -> float:
    path = args.work / f"{size}.step_time.json"
    if not path.exists():
        _command("bench", "step-time", *options(size, args), "--output", path)
    return json.loads(path.read_text())["mean_seconds"]


def train(folder: Path, size: str, seed: int, steps: int, args: argparse.Namespace) -> None:
    if not (folder / "finished").exists():
        budget = ["--budget.steps", steps, "--budget.training-seconds", None, "--schedule.follows", "steps"]
        budget += ["--evaluation.per-run", 10, "--seed", seed]
        _command("train", *options(size, args), "--workdir", folder, *budget)
        (folder / "finished").touch()


def curve(folder: Path, seconds: float) -> dict[str, list[float]]:
    """BLEU of the first 200 sentences of the validation set, greedily, and its loss; an update takes so many
    seconds."""
    lines = [line for line in read_metrics(folder / "metrics.jsonl") if BLEU in line]
    names = {"step": "step", "bleu": BLEU, "loss": LOSS}
    found = {name: [line[key] for line in lines] for name, key in names.items()}
    return {**found, "minutes": [step * seconds / 60 for step in found["step"]]}


def test(folder: Path) -> dict[str, Any]:
    path = folder / "evaluation.json"
    if not path.exists():
        path.write_text(_command("evaluate", "--checkpoint", folder, "--json"))
    return json.loads(path.read_text())


def verdict(runs: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Of the test set: what twice the width and twice the depth give, with standard errors over seeds."""
    name = "eval/multi30k_en_fr.test2016/bleu"
    scores = {size: [run["test"][name] for run in own] for size, own in runs.items()}
    told = [
        f"{size}: BLEU {statistics.fmean(own):.2f} ({', '.join(f'{x:.2f}' for x in own)})"
        for size, own in scores.items()
    ]
    wide, deep = np.array(scores["2x256"]), np.array(scores["4x128"])
    mean, seeds = float((wide - deep).mean()), len(wide)
    if seeds < 2:
        return [*told, f"2x256 - 4x128: {mean:+.2f} of one seed: not resolved"]
    error, p = float(scipy.stats.sem(wide - deep)), float(scipy.stats.ttest_rel(wide, deep).pvalue)
    resolved = "resolved" if p < 0.05 else "not resolved"
    return [*told, f"2x256 - 4x128: {mean:+.2f} +- {error:.2f} over {seeds} seeds, p = {p:.2g}: {resolved}"]


def draw(runs: dict[str, list[dict[str, Any]]], path: Path) -> None:
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.2), sharey=True)
    colors = plt.rcParams["axes.prop_cycle"].by_key()["color"]
    for color, (size, own) in zip(colors, runs.items(), strict=False):
        for number, run in enumerate(own):
            look = {"color": color, "alpha": 0.4 if number else 0.9, "label": None if number else size}
            axes[0].plot(run["step"], run["bleu"], **look)
            axes[1].plot(run["minutes"], run["bleu"], **look)
    axes[0].set(xlabel="updates", ylabel="BLEU, 200 validation sentences, greedy")
    axes[1].set(xlabel="training time (minutes at the measured time of an update)")
    axes[1].legend(title="depth x width")
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def _command(door: str, *options: object) -> str:
    done = subprocess.run(
        [sys.executable, "-m", f"tlc_jax.{door}", *map(str, options)],
        stdout=subprocess.PIPE if door == "evaluate" else None,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(done.returncode)
    return done.stdout


if __name__ == "__main__":
    main()
