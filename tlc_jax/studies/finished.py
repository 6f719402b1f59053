"""What a study finds when it is resumed: results and runs, which must be its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from rich.console import Console

from tlc_jax.config import Config
from tlc_jax.config.study_options import StudyConfig
from tlc_jax.core.errors import UserError
from tlc_jax.runs.checkpoint import whole_steps
from tlc_jax.storage.paths import AnyPath
from tlc_jax.storage.run_directory import RunDir
from tlc_jax.studies.result_store import ResultStore
from tlc_jax.studies.results import Result, metric_of, read_result, result_key
from tlc_jax.studies.same_data import SameData, run_data


class StudyRun(NamedTuple):
    """A training run of a study: the fields that its results are found by, its folder and its config."""

    fields: dict[str, str]
    folder: AnyPath
    config: Config

    @property
    def stage(self) -> str:
        return self.fields["stage"]


def study_runs(config: StudyConfig, workdir: AnyPath) -> Iterator[StudyRun]:
    """All runs, in the order in which they are trained."""
    for size in config.sizes:
        pretrain = {"stage": "pretrain", "size": size}
        yield StudyRun(pretrain, workdir / size / "pretrained", config.pretrain_of(size))
        for name, seeds in config.finetunings().items():
            for seed, finetuning in seeds.items():
                finetune = {"stage": "finetune", "size": size, "name": name, "seed": seed}
                yield StudyRun(finetune, workdir / size / f"{name}-{seed}", finetuning)


def check_finished(
    config: StudyConfig, workdir: AnyPath, store: ResultStore, same_data: SameData, console: Console
) -> None:
    """Check what earlier starts of the study left, before anything is trained.

    UserError if a result belongs to no run of this study or appears twice, if a run is not the one that its
    result was read from, or if runs differ in their data, those still to be trained included.
    """
    _check_results(config, workdir, store)
    runs, amended = list(study_runs(config, workdir)), False
    for run in runs:
        data, results = run_data(run.folder), _results_of(store, run)
        same_data.meet_run(run.stage, run.folder)
        for result in results:
            if data is not None and run.stage not in result.get("data", {}):
                result.setdefault("data", {})[run.stage] = data  # earlier versions stored none
                amended = True
            same_data.meet(store.location(result), result.get("data", {}))
        if results and results[0]["stage"] == run.stage and RunDir(run.folder).metrics.exists():
            _check_metrics(store, results[0], run)
    if amended:
        store.rewrite()
    _check_unknown(store, console)
    _check_ahead(runs, store, same_data, console)


def _check_ahead(runs: list[StudyRun], store: ResultStore, same_data: SameData, console: Console) -> None:
    """The runs that are still to be trained will use the data of the finished ones."""
    pretrained = (RunDir(run.folder) for run in runs if run.stage == "pretrain")
    source = next((rundir for rundir in pretrained if whole_steps(rundir.checkpoints)), None)
    for stage in ("pretrain", "finetune"):
        ahead = [run for run in runs if run.stage == stage and not store.find(**run.fields)]
        if not same_data.knows(stage) or all(run_data(run.folder) is not None for run in ahead):
            continue
        if stage == "pretrain":
            same_data.prepare(stage, ahead[0].config, None, console)
        elif source is not None:  # all sizes have its tokenizer
            same_data.prepare(stage, ahead[0].config, source, console)
        else:
            same_data.check_sources(stage, ahead[0].config)


def _check_results(config: StudyConfig, workdir: AnyPath, store: ResultStore) -> None:
    """Every result is one that the study asks for, and appears once."""
    runs = [run.fields for run in study_runs(config, workdir)]
    grid = [{"sparsity": sparsity, "bits": bits} for sparsity in config.sparsities for bits in config.bits]
    compressed = [
        {**fields, "stage": "compress", **point} for fields in runs if "seed" in fields for point in grid
    ]
    expected = {result_key(fields) for fields in [*runs, *compressed]}
    first: dict[tuple[Any, ...], Result] = {}
    for result in store.results:
        if (key := result_key(result)) not in expected:
            name = ", ".join(str(part) for part in key if part is not None)
            raise UserError(
                f"{store.location(result)} belongs to no run of this study ({name}): remove the line"
            )
        if first.setdefault(key, result) is not result:
            raise UserError(
                f"{store.location(result)} repeats the result of {store.location(first[key])}: remove one of "
                "the two lines"
            )


def _results_of(store: ResultStore, run: StudyRun) -> list[Result]:
    """The results that rest on a run, the run's own first."""
    fields = {name: value for name, value in run.fields.items() if name != "stage"}
    compressed = store.find(stage="compress", **fields) if run.stage == "finetune" else []
    return [*store.find(**run.fields), *compressed]


def _check_metrics(store: ResultStore, result: Result, run: StudyRun) -> None:
    """The result agrees with the run's metrics.jsonl."""
    for name, value in read_result(run.stage, run.folder, metric_of(result)).items():
        if result.get(name, value) != value:
            raise UserError(
                f"{run.folder} is not the run of {store.location(result)}: its {name} in metrics.jsonl "
                "differs. Restore the study's own run, or begin in a new --workdir"
            )


def _check_unknown(store: ResultStore, console: Console) -> None:
    """Results whose data cannot be determined: either all of a stage, which is reported, or none."""
    for stages in (("pretrain",), ("finetune", "compress")):
        results = [result for result in store.results if result["stage"] in stages]
        unknown = [result for result in results if stages[0] not in result.get("data", {})]
        if not unknown:
            continue
        text = f"{store.location(unknown[0])} does not name its data, and its run no longer exists"
        if len(unknown) < len(results):
            raise UserError(f"{text}: restore the run, or remove the line to have it computed again")
        console.print(f"{text}: whether all {stages[0]} data are the same cannot be checked")
