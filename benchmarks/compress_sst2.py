"""How small can a model become that is finetuned on SST-2? Two sizes: trained, pruned in rounds, quantized.

    python benchmarks/compress_sst2.py --work W --text wikipedia/ --tfds TFDS --output OUTPUT

Pretrains each size for the same time, finetunes it, prunes it in rounds with recovery, and writes every round
at 8, 6, 4, 3 and 2 bits, with min/max and least-squares ranges, as an artifact. Writes OUTPUT.jsonl (a line a
model: accuracy on the tuning and on the validation set, three sizes) and OUTPUT.png, and prints which file is
the smallest whose accuracy is within 1 % of the dense model's (chosen on the tuning set). The same command
goes on where it was interrupted.

Cost: with the defaults two hours of pretraining and about two of the rest on 2 CPU cores; 1 GB in W.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from about import about
from rich.console import Console

from tlc_jax.artifacts.artifact import WEIGHTS
from tlc_jax.compression.pipeline import recipe_of
from tlc_jax.config.compression import CompressConfig, RecoveryConfig
from tlc_jax.inference.model_with_data import ModelWithData, load_with_data
from tlc_jax.inference.predictions import Predictor
from tlc_jax.recipes.compress_run import compress_run
from tlc_jax.recipes.recover import prune_in_rounds
from tlc_jax.runs.load import load_model
from tlc_jax.studies.item_store import ItemStore, Result, Row
from tlc_jax.studies.made import made
from tlc_jax.tasks.classification import Classification

SIZES = {"4x256": (4, 256), "2x128": (2, 128)}
BITS, RANGES = (8, 6, 4, 3, 2), ("minmax", "mse")
LEVELS = (0.15, 0.30, 0.45, 0.60, 0.75, 0.90)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("work", "text", "tfds", "output"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=3600, help="of pretraining, each size")
    parser.add_argument("--steps", type=int, default=2000, help="of finetuning")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    store = ItemStore(args.work)
    for size in SIZES:
        train(args, size)
        compress(args, size, store)
    lines = [f"{json.dumps(row)}\n" for row in store.rows()]
    args.output.with_suffix(".jsonl").write_text("".join(lines), encoding="utf-8")
    draw(store, args.output.with_suffix(".png"))
    for line in (str(about()), *told(store)):
        print(line)


def train(args: argparse.Namespace, size: str) -> None:
    """Pretrained, then finetuned; the commands that a person would type."""
    depth, width = map(str, SIZES[size])
    folder = args.work / size
    model = ["--model.num-layers", depth, "--model.hidden-size", width]
    budget = ["--budget.training-seconds", str(args.seconds)]
    door("pretrain_small", folder / "pretrained", "--data.dir", str(args.text), *model, *budget)
    steps = ["--budget.steps", str(args.steps), "--init-from", str(folder / "pretrained")]
    door("finetune_sst2", folder / "finetuned", "--data.dir", str(args.tfds), *steps)


def door(config: str, workdir: Path, *more: str) -> None:
    command = [sys.executable, "-m", "tlc_jax.train", "--config", config, "--workdir", str(workdir), *more]
    subprocess.run(command, check=True)


def compress(args: argparse.Namespace, size: str, store: ItemStore) -> None:
    """Every round at every number of bits and with both ranges; what is in the store is not done again."""
    console, folder = Console(stderr=True), args.work / size
    recipe = CompressConfig(sparsity=LEVELS[-1], recovery=RecoveryConfig(levels=LEVELS))
    finetuned = str(folder / "finetuned")
    _, rounds = prune_in_rounds(finetuned, recipe_of(recipe), folder / "rounds", console)
    dense = load_with_data(finetuned, console)
    assert isinstance(dense.task, Classification)
    predict = Predictor(dense.task, 32, dense.mesh)
    roots = {0.0: finetuned} | {found.sparsity: found.reference for found in rounds}
    spent = {found.sparsity: (found.steps, found.training_seconds) for found in rounds}
    for level, root in roots.items():
        for bits, how in [(32, "minmax"), *((bits, how) for bits in BITS for how in RANGES)]:
            what = {"size": size, "sparsity": level, "bits": bits, "range": how}
            name = f"{size}/{100 * level:g}-{bits}-{how}"
            if not store.has(name):
                out = args.work / "artifacts" / name
                shutil.rmtree(out, ignore_errors=True)
                config = CompressConfig(bits=bits, range=how)
                manifest = compress_run(root, config, out, None, console)
                steps, seconds = spent.get(level, (0, 0.0))
                row: Row = {
                    "recovery_steps": steps,
                    "recovery_seconds": seconds,
                    **measured(dense, predict, out),
                    **manifest["size"],
                    "file_bytes": manifest["files"][WEIGHTS]["bytes"],
                }
                store.seal(Result(item=name, stage="compress", fields=what, rows=[row], made=made()))


def measured(dense: ModelWithData, predict: Predictor, artifact: Path) -> dict[str, Any]:
    """What the artifact's own bytes are worth."""
    params = load_model(str(artifact), warn=print).params
    names = (*dense.task.evaluation_sets(), *dense.task.reported_sets())
    return {f"{name}_accuracy": predict(params, name).accuracy for name in names if name != "test"}


def within(store: ItemStore, size: str) -> dict[str, Any]:
    """The smallest file whose accuracy on the tuning set is within 1 % of the dense model's."""
    results = store.rows(size=size)
    limit = 0.99 * next(r for r in results if r["bits"] == 32 and not r["sparsity"])["tuning_accuracy"]
    return min((r for r in results if r["tuning_accuracy"] >= limit), key=lambda r: r["file_bytes"])


def told(store: ItemStore) -> list[str]:
    lines = []
    for size in SIZES:
        dense = store.rows(size=size, bits=32, sparsity=0.0)[0]
        best = within(store, size)
        lines.append(
            f"{size}: dense {dense['validation_accuracy']:.4f} in {dense['float32_bytes']:,} bytes; "
            f"within 1 %: {best['bits']} bits {best['range']}, {100 * best['sparsity']:g} % pruned, "
            f"{best['validation_accuracy']:.4f} in {best['file_bytes']:,} bytes "
            f"({dense['float32_bytes'] / best['file_bytes']:.1f} times smaller)"
        )
    return lines


def draw(store: ItemStore, path: Path) -> None:
    """Accuracy over the bytes of the file; lines join what is best on the tuning set for its bytes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for number, size in enumerate(SIZES):
        results = sorted(store.rows(size=size), key=lambda r: r["file_bytes"])
        for how, marker in zip(RANGES, "ox", strict=True):
            own = [r for r in results if r["range"] == how]
            places = [r["file_bytes"] / 1e6 for r in own], [r["validation_accuracy"] for r in own]
            axes.scatter(*places, marker=marker, s=14, color=f"C{number}", alpha=0.4, label=f"{size}, {how}")
        best, line = 0.0, []
        for result in results:
            if result["tuning_accuracy"] > best:
                best = result["tuning_accuracy"]
                line.append((result["file_bytes"] / 1e6, result["validation_accuracy"]))
        axes.plot(*zip(*line, strict=True), color=f"C{number}")
    axes.set(xscale="log", xlabel="file, MB", ylabel="accuracy on SST-2 validation, chosen on tuning")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    main()
