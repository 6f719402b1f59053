"""What an hour of pretraining is worth: SST-2 and MNLI, pretrained against random initialisation.

    python benchmarks/finetune_seeds.py --work W --text TEXT --tfds TFDS --output OUT.json

Pretrains `pretrain_small` on TEXT for its hour, then finetunes from it and from random initialisation: SST-2
with all rows and with 2,000, MNLI with one seed. Each learning rate is chosen on the tuning set (5 % of the
training set); the validation set is read once for each finetuned model. Every part is a run of the package's
own commands in a folder of W: what is finished is not repeated, what was interrupted goes on. The output is
written after each task and says which rates were tried.

Cost: about 4 hours on 2 CPU cores after the pretraining.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from about import about

from tlc_jax.studies.statistics import difference, seed_error
from tlc_jax.training.metrics import read_metrics

SEEDS = (100, 300, 500)  # paper, appendix D
RATES = ("1e-4", "3e-4", "1e-3", "3e-3")


@dataclasses.dataclass(frozen=True)
class Task:
    """A training set and how long it is trained on: in the search for a rate, and then."""

    name: str
    config: str
    reported: str
    search_steps: int
    steps: int
    seeds: tuple[int, ...] = SEEDS
    max_examples: int | None = None
    rates: tuple[str, ...] = RATES


TASKS = (
    Task("sst2_2000", "finetune_sst2", "validation", 625, 625, max_examples=2000),  # 10 epochs
    Task("sst2", "finetune_sst2", "validation", 1000, 2000),  # half an epoch, an epoch
    # a twelfth of an epoch of the sample, half an epoch; the rates that were best above
    Task("mnli", "finetune_mnli", "validation_matched", 250, 1500, seeds=(100,), rates=("3e-4", "1e-3")),
)


class Runs:
    """Runs of the package's commands in the folders of `work`."""

    def __init__(self, args: argparse.Namespace):
        self._args, self.pretrained = args, args.work / "pretrained"

    def pretrain(self) -> None:
        _command("train", "--config", "pretrain_small", "--workdir", self.pretrained, *self._data("text"))

    def finetune(self, task: Task, start: str, rate: str, seed: int, steps: int) -> Path:
        """The folder of a finished run."""
        folder = self._args.work / f"{task.name}-{start}-{rate}-{seed}-{steps}"
        options: list[object] = ["--optimizer.learning-rate", rate, "--budget.steps", steps, "--seed", seed]
        if start == "pretrained":
            options += ["--init-from", self.pretrained]
        else:
            options += self._same_model()
        if task.max_examples:
            options += ["--task.max-examples", task.max_examples]
        if not (folder / "finished").exists():
            _command("train", "--config", task.config, "--workdir", folder, *options, *self._data("tfds"))
            (folder / "finished").touch()
        return folder

    def correct(self, folder: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Which examples of a set the model has right, and the linear model."""
        path = folder / "predictions.jsonl"
        if not path.exists():
            _command("evaluate", "--checkpoint", folder, "--predictions", path)
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        own = [line for line in lines if line["set"] == name]
        right = [np.array([line[kind] == line["label"] for line in own]) for kind in ("predicted", "linear")]
        return right[0], right[1]

    def _same_model(self) -> list[object]:
        model = json.loads((self.pretrained / "config.json").read_text())["model"]
        names = ("num_layers", "hidden_size", "vocab_size", "max_positions", "initializer_scaling")
        options: list[object] = ["--data.tokenizer", self.pretrained / "tokenizer.json"]
        for name in names:
            options += [f"--model.{name.replace('_', '-')}", model[name]]
        return options

    def _data(self, kind: str) -> list[object]:
        cache = ["--data.cache-dir", self._args.cache] if self._args.cache else []
        return ["--data.dir", getattr(self._args, kind), *cache]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    for name in ("work", "text", "tfds", "output"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--cache", type=Path)
    args = parser.parse_args()
    runs = Runs(args)
    runs.pretrain()
    found: dict[str, object] = {**about()}
    for task in TASKS:
        found[task.name] = compare(runs, task)
        args.output.write_text(json.dumps(found, indent=1) + "\n")


def compare(runs: Runs, task: Task) -> dict[str, object]:
    """Accuracies on the reported set, and what their differences are worth."""
    found: dict[str, object] = {"steps": task.steps, "max_examples": task.max_examples, "set": task.reported}
    right: dict[str, np.ndarray] = {}
    for start in ("pretrained", "random"):
        tried = {rate: runs.finetune(task, start, rate, SEEDS[0], task.search_steps) for rate in task.rates}
        tuning = {rate: tuning_accuracy(folder) for rate, folder in tried.items()}
        best = max(tuning, key=lambda rate: tuning[rate])
        folders = [runs.finetune(task, start, best, seed, task.steps) for seed in task.seeds]
        both = [runs.correct(folder, task.reported) for folder in folders]
        right[start], right["bag of words"] = np.stack([model for model, _ in both]), both[0][1][None]
        found[start] = {
            "tuning_accuracy_by_rate": tuning,
            "rate": best,
            "seeds": task.seeds,
            "accuracies": right[start].mean(axis=1).tolist(),
            "mean": float(right[start].mean()),
            "standard_error_over_seeds": seed_error(right[start].mean(axis=1))
            if len(task.seeds) > 1
            else None,
        }
    found["bag of words"] = float(right["bag of words"].mean())
    found["examples"] = right["bag of words"].shape[1]
    found["differences"] = {
        f"{one} - {other}": str(difference(right[one], right[other]))
        for one, other in itertools.combinations(right, 2)
    }
    return found


def tuning_accuracy(folder: Path) -> float:
    lines = read_metrics(folder / "metrics.jsonl")
    return [line["eval/tuning/accuracy"] for line in lines if "eval/tuning/accuracy" in line][-1]


def _command(door: str, *options: object) -> None:
    done = subprocess.run([sys.executable, "-m", f"tlc_jax.{door}", *map(str, options)], check=False)
    if done.returncode:
        sys.exit(done.returncode)


if __name__ == "__main__":
    main()
