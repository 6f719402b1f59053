"""The runs of a study, in order: each size is pretrained, finetuned, then compressed and evaluated.

Everything can be interrupted: a training run goes on from its checkpoint, a result that is in the store is
not computed again.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rich.console import Console

from tlc_jax.compression.account import nonzero_count, paper_bytes
from tlc_jax.compression.prune import apply_masks, magnitude_masks
from tlc_jax.compression.quantize import dequantize, quantize
from tlc_jax.config import StudyConfig
from tlc_jax.core import stopping, tree
from tlc_jax.core.rundir import RunDir
from tlc_jax.inference.load import LoadedRun, load_run
from tlc_jax.studies.store import Result, ResultStore
from tlc_jax.training.evaluate import Evaluator
from tlc_jax.training.metrics import read_metrics
from tlc_jax.training.run import Order, run


def run_study(config: StudyConfig, workdir: Path, store: ResultStore, console: Console) -> None:
    """Does what is not done yet, and adds it to the store."""
    for number, size in enumerate(config.sizes, start=1):
        title, folder = f"{size} ({number} of {len(config.sizes)})", workdir / size
        if not store.find(stage="pretrain", size=size):
            own = config.pretrain_of(size)
            run(Order(own, own, folder / "pretrained", title=f"{title} pretraining"), console)
            store.add({"stage": "pretrain", "size": size, **_curve(folder / "pretrained")})
        tried = config.finetunings()
        for name, own in tried.items():
            if not store.find(stage="finetune", size=size, name=name):
                what = f"{title} finetuning" + (f" {name}" if len(tried) > 1 else "")
                run(Order(own, own, folder / name, init_from=folder / "pretrained", title=what), console)
                store.add({"stage": "finetune", "size": size, "name": name, **_tuning(folder / name)})
        best = best_finetuning(store, size)
        missing = [
            (sparsity, bits)
            for sparsity in config.sparsities
            for bits in config.bits
            if not store.find(stage="compress", size=size, sparsity=sparsity, bits=bits)
        ]
        if missing:
            for result in _compressed(load_run(folder / best, console), missing, title, console):
                store.add({"stage": "compress", "size": size, "finetuned": best, **result})


def best_finetuning(store: ResultStore, size: str) -> str:
    """The name of the best on the tuning set; the reported set has no say."""
    found = store.find(stage="finetune", size=size)
    return max(found, key=lambda result: (result["accuracy"], -result["loss"]))["name"]


def _curve(workdir: Path) -> Result:
    """Held-out perplexity over the training seconds, with the lines that it must cross."""
    lines = read_metrics(RunDir(workdir).metrics)
    points = [line for line in lines if "eval/held_out/perplexity" in line]
    return {
        "steps": [line["step"] for line in points],
        "training_seconds": [line["training_seconds"] for line in points],
        "perplexity": [line["eval/held_out/perplexity"] for line in points],
        "unigram_perplexity": lines[0]["eval/held_out/unigram_perplexity"],
        "bigram_perplexity": lines[0]["eval/held_out/bigram_perplexity"],
    }


def _tuning(workdir: Path) -> Result:
    """The last evaluation on the tuning set."""
    last = [line for line in read_metrics(RunDir(workdir).metrics) if "eval/tuning/accuracy" in line][-1]
    names = ("accuracy", "loss")
    return {
        "steps": last["step"],
        "training_seconds": last["training_seconds"],
        **{name: last[f"eval/tuning/{name}"] for name in names},
    }


def _compressed(
    loaded: LoadedRun, missing: list[tuple[float, int]], title: str, console: Console
) -> Iterator[Result]:
    """Accuracy of one model at each (sparsity, bits) on the first reported set, read for this only."""
    name = loaded.task.reported_sets()[0]
    evaluate = Evaluator(loaded.task, [name], loaded.config.batch_size, loaded.mesh)
    lines = {key: value for key, value in loaded.task.baselines().items() if key.startswith(f"{name}/")}
    with console.status(f"{title} compressing") as status:
        for number, (sparsity, bits) in enumerate(missing, start=1):
            stopping.check()
            status.update(f"{title} compressing: {number} of {len(missing)}")
            masks = magnitude_masks(loaded.params, sparsity) if sparsity else None
            pruned = loaded.params if masks is None else apply_masks(loaded.params, masks)
            found = evaluate(dequantize(quantize(pruned, bits, masks)))
            yield {
                "sparsity": sparsity,
                "bits": bits,
                "set": name,
                "examples": loaded.task.evaluation_size(name),
                "accuracy": found[f"eval/{name}/accuracy"],
                "paper_bytes": paper_bytes(loaded.params, bits, masks),
                "parameters": tree.count(loaded.params),
                "nonzeros": nonzero_count(loaded.params, masks),
                "step": loaded.step,
                **{metric.removeprefix(f"{name}/"): value for metric, value in lines.items()},
            }
    console.print(f"{title}: compressed {len(missing)} ways")
