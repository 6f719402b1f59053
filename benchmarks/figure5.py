"""Figure 5 of the paper in miniature: BLEU over equal training time, two widths and two depths.

    python benchmarks/figure5.py --work W --data DATA --output OUT [--seconds 1200] [--seeds 100 300]

DATA holds the pairs that `TRAIN` names. Each size of `SIZES` is trained for so many seconds with the recipe
of `translate_small`, once for each seed; what is finished is not repeated, what was interrupted goes on.
Written are OUT.json (BLEU of every evaluation over steps and training seconds, that of the test set at the
end, the verdict on width against depth), and OUT.png.

Cost: 4 sizes x seeds x the seconds; leave the cores that it runs on alone.
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

TRAIN = "multi30k_en_fr.train.tsv.gz=0.5,tatoeba_en_fr.train.tsv.gz=0.3,europarl_en_fr/shard-00.tsv.zst=0.2"
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
    found: dict[str, Any] = {**about(), "seconds": args.seconds, "seeds": args.seeds, "train": TRAIN}
    runs: dict[str, list[dict[str, Any]]] = {size: [] for size in SIZES}
    for seed, size in itertools.product(args.seeds, SIZES):
        folder = args.work / f"{size}-{seed}"
        train(folder, size, seed, args)
        runs[size].append({"seed": seed, **curve(folder), "test": test(folder)})
        found["runs"] = runs
        args.output.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n")
    found["verdict"] = verdict(runs)
    args.output.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n")
    draw(runs, args.output.with_suffix(".png"))
    print("\n".join(found["verdict"]))


def train(folder: Path, size: str, seed: int, args: argparse.Namespace) -> None:
    depth, width = SIZES[size]
    options: list[object] = ["--config", "translate_small", "--workdir", folder, "--seed", seed]
    options += ["--model.num-layers", depth, "--model.hidden-size", width]
    options += ["--budget.training-seconds", args.seconds, "--evaluation.every-steps", 500]
    options += ["--data.dir", args.data, "--data.train", TRAIN]
    options += ["--data.validation", VALIDATION, "--data.test", TEST]
    options += ["--data.cache-dir", args.cache] if args.cache else []
    if not (folder / "finished").exists():
        _command("train", *options)
        (folder / "finished").touch()


def curve(folder: Path) -> dict[str, list[float]]:
    """BLEU of the first 200 sentences of the validation set, greedily, and its loss."""
    lines = [line for line in read_metrics(folder / "metrics.jsonl") if BLEU in line]
    names = {"step": "step", "training_seconds": "training_seconds", "bleu": BLEU, "loss": LOSS}
    return {name: [line[key] for line in lines] for name, key in names.items()}


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
            label = size if not number else None
            axes[0].plot(run["step"], run["bleu"], color=color, label=label, alpha=0.9 - 0.4 * bool(number))
            minutes = [seconds / 60 for seconds in run["training_seconds"]]
            axes[1].plot(minutes, run["bleu"], color=color, label=label, alpha=0.9 - 0.4 * bool(number))
    axes[0].set(xlabel="updates", ylabel="BLEU, 200 validation sentences, greedy")
    axes[1].set(xlabel="training time (minutes)")
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
