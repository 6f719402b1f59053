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
from tlc_jax.config.quantization import QuantSpec
from tlc_jax.config.study_options import StudyConfig
from tlc_jax.core import stopping
from tlc_jax.core.stacked import join, split
from tlc_jax.inference.load import LoadedModel, load_model
from tlc_jax.inference.predict import Predictor
from tlc_jax.runs.run import Order, run
from tlc_jax.storage.paths import AnyPath
from tlc_jax.storage.run_directory import RunDir
from tlc_jax.studies.finished import StudyRun, check_finished, study_runs
from tlc_jax.studies.models import pack
from tlc_jax.studies.result_store import ResultStore
from tlc_jax.studies.results import Result, read_result
from tlc_jax.studies.same_data import Data, SameData, run_data
from tlc_jax.tasks.classification import TUNING, Classification


def run_study(config: StudyConfig, workdir: AnyPath, store: ResultStore, console: Console) -> None:
    """Does what is not done yet, and adds it to the store. UserError before anything is trained where what is
    there is not this study's, or what is still to be trained would see other data."""
    same_data = SameData(workdir / "data.json")
    check_finished(config, workdir, store, same_data, console)
    runs = list(study_runs(config, workdir))
    for number, size in enumerate(config.sizes, start=1):
        title = f"{size} ({number} of {len(config.sizes)})"
        pretraining, *finetunings = (own for own in runs if own.fields["size"] == size)
        _train(pretraining, None, store, same_data, f"{title} pretraining", console)
        for count, own in enumerate(finetunings, start=1):
            what = f"{title} finetuning" + (f" {count} of {len(finetunings)}" if len(finetunings) > 1 else "")
            _train(own, pretraining, store, same_data, what, console)
        chosen = best_finetuning(store, size)
        for own in finetunings:
            if own.fields["name"] == chosen:
                _compress(config, own, store, title, console)


def _train(
    own: StudyRun,
    source: StudyRun | None,
    store: ResultStore,
    same_data: SameData,
    title: str,
    console: Console,
) -> None:
    """One run, and its result; `source` is where it starts from."""
    if store.find(**own.fields):
        return
    init_from = None if source is None else source.folder
    data_from = None
    if run_data(own.folder) is None:
        data_from = same_data.prepare(own.stage, own.config, init_from and RunDir(init_from), console)
    order = Order(own.config, own.config, own.folder, init_from=init_from, data_from=data_from, title=title)
    run(order, console)
    same_data.meet_run(own.stage, own.folder)
    data: Data = {} if source is None else dict(store.find(**source.fields)[0].get("data", {}))
    if (trained_on := run_data(own.folder)) is not None:
        data[own.stage] = trained_on
    same_data.meet(str(own.folder), data)
    store.add({**own.fields, **read_result(own.stage, own.folder), "data": data})


def _compress(config: StudyConfig, own: StudyRun, store: ResultStore, title: str, console: Console) -> None:
    """A finetuned run at each sparsity and number of bits that is not in the store yet."""
    fields = {**own.fields, "stage": "compress"}
    done = {(result["sparsity"], result["bits"]) for result in store.find(**fields)}
    wanted = [(sparsity, bits) for sparsity in config.sparsities for bits in config.bits]
    if missing := [one for one in wanted if one not in done]:
        data = store.find(**own.fields)[0].get("data", {})
        loaded = load_model(str(own.folder), console)
        for result in _compressed(loaded, missing, title, console):
            store.add({**fields, **result, "data": data})


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
