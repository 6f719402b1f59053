"""What a study finds when it is started again: its results and runs, which must be its own."""

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
from tlc_jax.studies.results import Result, read_result, result_key
from tlc_jax.studies.same_data import SameData, run_data


class StudyRun(NamedTuple):
    """A training run of a study: what its results are found by, where it is, and how it is trained."""

    fields: dict[str, str]
    folder: AnyPath
    config: Config

    @property
    def stage(self) -> str:
        return self.fields["stage"]


def study_runs(config: StudyConfig, workdir: AnyPath) -> Iterator[StudyRun]:
    """All of them, in the order in which they are trained."""
    for size in config.sizes:
        pretrain = {"stage": "pretrain", "size": size}
        yield StudyRun(pretrain, workdir / size / "pretrained", config.pretrain_of(size))
        for name, seeds in config.finetunings().items():
            for seed, own in seeds.items():
                finetune = {"stage": "finetune", "size": size, "name": name, "seed": seed}
                yield StudyRun(finetune, workdir / size / f"{name}-{seed}", own)


def check_finished(
    config: StudyConfig, workdir: AnyPath, store: ResultStore, same_data: SameData, console: Console
) -> None:
    """UserError where a result is none of this study's or comes twice, where a run is not the one that its
    result was read from, and where any of them was made with other data than the rest, or what is still to be
    trained would be."""
    _check_results(config, workdir, store)
    runs, amended = list(study_runs(config, workdir)), False
    for run in runs:
        data, results = run_data(run.folder), _results_of(store, run)
        same_data.meet_run(run.stage, run.folder)
        for result in results:
            if data is not None and run.stage not in result.get("data", {}):
                result["data"] = {**result.get("data", {}), run.stage: data}  # earlier versions did not tell
                amended = True
            same_data.meet(store.where(result), result.get("data", {}))
        if results and results[0]["stage"] == run.stage and RunDir(run.folder).metrics.exists():
            _check_metrics(store, results[0], run)
    if amended:
        store.rewrite()
    _check_unknown(store, console)
    _check_ahead(runs, store, same_data, console)


def _check_ahead(runs: list[StudyRun], store: ResultStore, same_data: SameData, console: Console) -> None:
    """What is still to be trained will see the data of what is done."""
    pretrained = (RunDir(run.folder) for run in runs if run.stage == "pretrain")
    source = next((rundir for rundir in pretrained if whole_steps(rundir.checkpoints)), None)
    for stage in ("pretrain", "finetune"):
        ahead = [run for run in runs if run.stage == stage and not store.find(**run.fields)]
        if not same_data.knows(stage) or all(run_data(run.folder) is not None for run in ahead):
            continue
        if stage == "pretrain":
            same_data.prepare(stage, ahead[0].config, None, console)
        elif source is not None:  # whose tokenizer is that of all sizes
            same_data.prepare(stage, ahead[0].config, source, console)
        else:
            same_data.check_sources(stage, ahead[0].config)


def _check_results(config: StudyConfig, workdir: AnyPath, store: ResultStore) -> None:
    """Each is one that the study asks for, and the only one of its kind."""
    runs = [run.fields for run in study_runs(config, workdir)]
    grid = [{"sparsity": sparsity, "bits": bits} for sparsity in config.sparsities for bits in config.bits]
    compressed = [
        {**fields, "stage": "compress", **one} for fields in runs if "seed" in fields for one in grid
    ]
    expected = {result_key(fields) for fields in [*runs, *compressed]}
    first: dict[tuple[Any, ...], Result] = {}
    for result in store.results:
        if (key := result_key(result)) not in expected:
            name = ", ".join(str(part) for part in key if part is not None)
            raise UserError(f"{store.where(result)} is of no run of this study ({name}): remove the line")
        if first.setdefault(key, result) is not result:
            raise UserError(
                f"{store.where(result)} is of the same as {store.where(first[key])}: remove one of the lines"
            )


def _results_of(store: ResultStore, run: StudyRun) -> list[Result]:
    """Those of a run, its own first."""
    fields = {name: value for name, value in run.fields.items() if name != "stage"}
    compressed = store.find(stage="compress", **fields) if run.stage == "finetune" else []
    return [*store.find(**run.fields), *compressed]


def _check_metrics(store: ResultStore, result: Result, run: StudyRun) -> None:
    """The run's own metrics say what its result says."""
    for name, value in read_result(run.stage, run.folder).items():
        if result[name] != value:
            raise UserError(
                f"{run.folder} is not the run of {store.where(result)}: its metrics tell other {name}. "
                "Put the study's own run back, or begin in a new --workdir"
            )


def _check_unknown(store: ResultStore, console: Console) -> None:
    """Results of which nobody can say what they rest on: all of a stage, which is told, or none."""
    for stages in (("pretrain",), ("finetune", "compress")):
        results = [result for result in store.results if result["stage"] in stages]
        unknown = [result for result in results if stages[0] not in result.get("data", {})]
        if not unknown:
            continue
        text = f"{store.where(unknown[0])} does not tell which data it was made with, and its run is gone"
        if len(unknown) < len(results):
            raise UserError(f"{text}: put the run back, or remove the line to have it made again")
        console.print(f"{text}: that all {stages[0]} data are the same is not known")
