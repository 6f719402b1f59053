"""The runs of a study: each size is pretrained, finetuned, then compressed and evaluated.

A study can be interrupted at any time: training runs resume from their checkpoints, and a result that is in
the store is not computed again.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

import jax
from rich.console import Console

from tlc_jax.compression.pipeline import recipe_of
from tlc_jax.config.compression import CompressConfig
from tlc_jax.config.study_options import StudyConfig
from tlc_jax.core import stopping
from tlc_jax.core.errors import UserError
from tlc_jax.parallel.mesh import replicated
from tlc_jax.recipes.compressed_model import compress_model
from tlc_jax.recipes.tuning_evaluator import task_of
from tlc_jax.runs.begin import Fresh, InitFrom
from tlc_jax.runs.load import load_model
from tlc_jax.runs.train_run import train_run
from tlc_jax.storage.paths import AnyPath
from tlc_jax.storage.run_directory import RunDir
from tlc_jax.studies.example_scorer import ExampleScorer
from tlc_jax.studies.finished import StudyRun, check_finished, study_runs
from tlc_jax.studies.frontier import pack
from tlc_jax.studies.result_store import ResultStore
from tlc_jax.studies.results import Result, metric_of, read_result
from tlc_jax.studies.same_data import SOURCES, Data, SameData, run_data
from tlc_jax.tasks.kinds import kind_of
from tlc_jax.tasks.metric import ACCURACY
from tlc_jax.training.evaluator import Evaluator

_KINDS = {"pretrain": "mlm", "finetune": "classification"}


def run_study(config: StudyConfig, workdir: AnyPath, store: ResultStore, console: Console) -> None:
    """Compute the results that are not in the store yet. UserError before anything is trained if existing
    runs or results do not belong to this study, or if runs still to be trained would use other data."""
    _check_kinds(config)
    same_data = SameData(workdir / SOURCES)
    check_finished(config, workdir, store, same_data, console)
    runs = list(study_runs(config, workdir))
    for number, size in enumerate(config.sizes, start=1):
        title = f"{size} ({number} of {len(config.sizes)})"
        pretraining, *finetunings = (run for run in runs if run.fields["size"] == size)
        _train(pretraining, None, store, same_data, f"{title} pretraining", console)
        for count, run in enumerate(finetunings, start=1):
            part = f" {count} of {len(finetunings)}" if len(finetunings) > 1 else ""
            _train(run, pretraining, store, same_data, f"{title} finetuning{part}", console)
        chosen = best_finetuning(store, size)
        for run in finetunings:
            if run.fields["name"] == chosen:
                _compress(config, run, store, title, console)


def _check_kinds(config: StudyConfig) -> None:
    for stage, name in _KINDS.items():
        if (kind := kind_of(getattr(config, stage)).name) != name:
            raise UserError(f"{stage}.task must be of the kind {name}, not {kind}: correct the config")


def _train(
    run: StudyRun,
    source: StudyRun | None,
    store: ResultStore,
    same_data: SameData,
    title: str,
    console: Console,
) -> None:
    """Train one run, from the parameters of `source` if there is one, and store its result."""
    if store.find(**run.fields):
        return
    data_from = None
    if run_data(run.folder) is None:
        data_from = same_data.prepare(run.stage, run.config, source and RunDir(source.folder), console)
    begin = (
        Fresh(data_from=data_from) if source is None else InitFrom(str(source.folder), data_from=data_from)
    )
    train_run(run.config, run.folder, begin, console, title=title)
    same_data.meet_run(run.stage, run.folder)
    data: Data = {} if source is None else dict(store.find(**source.fields)[0].get("data", {}))
    if (trained_on := run_data(run.folder)) is not None:
        data[run.stage] = trained_on
    same_data.meet(str(run.folder), data)
    metric = ACCURACY
    if source is not None:
        rundir = RunDir(run.folder)
        trained = rundir.read_config()
        kind = kind_of(trained)
        metric = kind.task(trained, kind.open(trained, rundir.data)).primary_metric
    store.add({**run.fields, **read_result(run.stage, run.folder, metric), "data": data})


def best_finetuning(store: ResultStore, size: str) -> str:
    """The name of the combination with the best mean over its seeds on the tuning set, of equals the one with
    the lowest loss; the reported set has no influence."""
    seeds: dict[str, list[Result]] = {}
    for result in store.find(stage="finetune", size=size):
        seeds.setdefault(result["name"], []).append(result)

    def mean(name: str, key: str) -> float:
        return statistics.fmean(result[key] for result in seeds[name])

    metric = metric_of(next(iter(seeds.values()))[0])
    return metric.best(sorted(seeds, key=lambda n: mean(n, "loss")), lambda n: mean(n, metric.name))


def _compress(config: StudyConfig, run: StudyRun, store: ResultStore, title: str, console: Console) -> None:
    """Compress a finetuned run at each sparsity and number of bits that is not in the store yet."""
    fields = {**run.fields, "stage": "compress"}
    finished = {(result["sparsity"], result["bits"]) for result in store.find(**fields)}
    missing = [each for each in config.compressions() if (each.sparsity, each.bits) not in finished]
    if missing:
        data = store.find(**run.fields)[0].get("data", {})
        for result in measure_compressed(str(run.folder), missing, title, console):
            store.add({**fields, **result, "data": data})


def measure_compressed(
    reference: str, compressions: Sequence[CompressConfig], title: str, console: Console
) -> Iterator[Result]:
    """The results of a finetuned model under each compression: the primary metric on the tuning set and on
    the first reported set, the examples that are correct, and the sizes of what compress writes."""
    model = load_model(reference, warn=console.print)
    task = task_of(model)
    metric, tuning, name = task.primary_metric, task.evaluation_sets()[0], task.reported_sets()[0]
    evaluate = Evaluator(task, model.config.at_once, model.mesh, between=stopping.check)
    score = ExampleScorer(task, model.config.at_once, model.mesh)
    baselines = [f"{model}_{metric.name}" for model in ("majority", "linear")]
    with console.status(f"{title} compressing") as status:
        for number, config in enumerate(compressions, start=1):
            status.update(f"{title} compressing: {number} of {len(compressions)}")
            compressed = compress_model(model, recipe_of(config), console)
            params = jax.device_put(compressed.params, replicated(model.mesh))
            metrics = evaluate(params, [tuning, name])
            correct = score(params, name) == 1
            yield {
                "sparsity": config.sparsity,
                "bits": config.bits,
                "metric": metric.name,
                "higher_is_better": metric.higher_is_better,
                f"tuning_{metric.name}": metrics[f"eval/{tuning}/{metric.name}"],
                "set": name,
                "examples": len(correct),
                metric.name: metrics[f"eval/{name}/{metric.name}"],
                "correct": pack(correct),
                "paper_bytes": compressed.sizes.paper_bytes,
                "format_bytes": compressed.sizes.format_bytes,
                "file_bytes": compressed.file_bytes(config.zstd),
                "parameters": compressed.sizes.weights,
                "nonzeros": compressed.sizes.nonzeros,
                "step": model.step,
                **{key: task.baselines()[f"{name}/{key}"] for key in baselines},
            }
    console.print(f"{title}: compressed {len(compressions)} ways")
