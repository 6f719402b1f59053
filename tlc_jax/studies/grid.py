"""The runs of a study, in order: each size is pretrained, finetuned, then compressed and evaluated.

Everything can be interrupted: a training run goes on from its checkpoint, a result that is in the store is
not computed again.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from rich.console import Console

from tlc_jax.compression.account import account
from tlc_jax.compression.prune import apply_masks, magnitude_masks
from tlc_jax.compression.quantize import dequantize, quantize
from tlc_jax.compression.select import paper_rules, prunable, select, specs
from tlc_jax.config import Config
from tlc_jax.core import stopping
from tlc_jax.core.place import Place
from tlc_jax.core.quantspec import QuantSpec
from tlc_jax.core.rundir import RunDir
from tlc_jax.core.stacked import join, split
from tlc_jax.inference.load import LoadedModel, load_model
from tlc_jax.inference.predict import Predictor
from tlc_jax.studies.config import StudyConfig
from tlc_jax.studies.models import pack
from tlc_jax.studies.store import Result, ResultStore
from tlc_jax.tasks.classification import TUNING, Classification
from tlc_jax.training.metrics import read_metrics
from tlc_jax.training.run import Order, run


def run_study(config: StudyConfig, workdir: Place, store: ResultStore, console: Console) -> None:
    """Does what is not done yet, and adds it to the store."""
    for number, size in enumerate(config.sizes, start=1):
        title, folder = f"{size} ({number} of {len(config.sizes)})", workdir / size
        _pretrain(config, size, folder, store, title, console)
        tried = config.finetunings()
        _finetune(tried, size, folder, store, title, console)
        chosen = best_finetuning(store, size)
        for seed in tried[chosen]:
            done = {(r["sparsity"], r["bits"]) for r in store.find(stage="compress", size=size, seed=seed)}
            missing = [
                (sparsity, bits)
                for sparsity in config.sparsities
                for bits in config.bits
                if (sparsity, bits) not in done
            ]
            if missing:
                loaded = load_model(str(folder / f"{chosen}-{seed}"), console)
                for result in _compressed(loaded, missing, title, console):
                    store.add({"stage": "compress", "size": size, "name": chosen, "seed": seed, **result})


def _pretrain(
    config: StudyConfig, size: str, folder: Place, store: ResultStore, title: str, console: Console
) -> None:
    if not store.find(stage="pretrain", size=size):
        own = config.pretrain_of(size)
        run(Order(own, own, folder / "pretrained", title=f"{title} pretraining"), console)
        store.add({"stage": "pretrain", "size": size, **_curve(folder / "pretrained")})


def _finetune(
    tried: dict[str, dict[str, Config]],
    size: str,
    folder: Place,
    store: ResultStore,
    title: str,
    console: Console,
) -> None:
    runs = [(name, seed, own) for name, seeds in tried.items() for seed, own in seeds.items()]
    for number, (name, seed, own) in enumerate(runs, start=1):
        if not store.find(stage="finetune", size=size, name=name, seed=seed):
            what = f"{title} finetuning" + (f" {number} of {len(runs)}" if len(runs) > 1 else "")
            workdir = folder / f"{name}-{seed}"
            run(Order(own, own, workdir, init_from=folder / "pretrained", title=what), console)
            store.add({"stage": "finetune", "size": size, "name": name, "seed": seed, **_tuning(workdir)})


def best_finetuning(store: ResultStore, size: str) -> str:
    """The name of the combination with the best mean over its seeds on the tuning set; the reported set
    has no say."""
    seeds: dict[str, list[Result]] = {}
    for result in store.find(stage="finetune", size=size):
        seeds.setdefault(result["name"], []).append(result)

    def quality(name: str) -> tuple[float, float]:
        accuracy, loss = ([r[metric] for r in seeds[name]] for metric in ("accuracy", "loss"))
        return statistics.fmean(accuracy), -statistics.fmean(loss)

    return max(seeds, key=quality)


def _curve(workdir: Place) -> Result:
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


def _tuning(workdir: Place) -> Result:
    """The last evaluation on the tuning set."""
    last = [line for line in read_metrics(RunDir(workdir).metrics) if "eval/tuning/accuracy" in line][-1]
    names = ("accuracy", "loss")
    return {
        "steps": last["step"],
        "training_seconds": last["training_seconds"],
        **{name: last[f"eval/tuning/{name}"] for name in names},
    }


def _compressed(
    loaded: LoadedModel, missing: list[tuple[float, int]], title: str, console: Console
) -> Iterator[Result]:
    """One model at each (sparsity, bits): its accuracy to choose on, and what it has right of the first
    reported set."""
    task = loaded.task
    assert isinstance(task, Classification)
    name = task.reported_sets()[0]
    predict, tensors = Predictor(task, loaded.config.batch_size, loaded.mesh), split(loaded.params)
    lines = {key: value for key, value in task.baselines().items() if key.startswith(f"{name}/")}
    with console.status(f"{title} compressing") as status:
        for number, (sparsity, bits) in enumerate(missing, start=1):
            stopping.check()
            status.update(f"{title} compressing: {number} of {len(missing)}")
            rules = select(tensors, paper_rules(tensors, QuantSpec(bits, zero="float")))
            masks = magnitude_masks(prunable(tensors, rules), sparsity) if sparsity else {}
            quantized = quantize(apply_masks(tensors, masks), specs(rules), masks)
            params, size = join(dequantize(quantized)), account(quantized, masks)
            found = predict(params, name)
            yield {
                "sparsity": sparsity,
                "bits": bits,
                "tuning_accuracy": predict(params, TUNING).accuracy,
                "set": name,
                "examples": len(found.targets),
                "accuracy": found.accuracy,
                "correct": pack(found.correct),
                "paper_bytes": size.paper,
                "parameters": size.weights,
                "nonzeros": size.nonzeros,
                "step": loaded.step,
                **{metric.removeprefix(f"{name}/"): value for metric, value in lines.items()},
            }
    console.print(f"{title}: compressed {len(missing)} ways")
