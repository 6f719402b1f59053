"""Compression items of a study: a finished model at one sparsity and number of bits, measured as the artifact
that `compress` writes."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from typing import Any

import jax
from rich.console import Console

from tlc_jax.compression.pipeline import recipe_of
from tlc_jax.config.compression import CompressConfig
from tlc_jax.core import stopping
from tlc_jax.parallel.mesh import replicated
from tlc_jax.recipes.compressed_model import CompressedModel, compress_model
from tlc_jax.recipes.tuning_evaluator import task_of
from tlc_jax.runs.load import TrainedModel, load_model
from tlc_jax.studies.example_scorer import ExampleScorer
from tlc_jax.studies.finished_run import check_run
from tlc_jax.studies.item_store import PackedScores, Result, Row, pack_scores
from tlc_jax.studies.items import Item
from tlc_jax.studies.made import made
from tlc_jax.studies.measured import metric_of, primary_fields
from tlc_jax.studies.study_folder import StudyFolder
from tlc_jax.training.evaluator import Evaluator


def compress_items(items: Sequence[Item], study: StudyFolder) -> Iterator[Result]:
    """The results of items that compress the same model, one after the other; none if the model is that of a
    finetuning which was not chosen."""
    first = items[0]
    if first.fields.get("combination", "") != chosen_combination(first, study):
        for item in items:
            yield Result(item=item.name, stage=item.stage, fields=item.fields, rows=[], made=made())
        return
    console = study.console
    check_run(first.run, study)
    measure = CompressedMeasurer(load_model(str(study.run(first.run).root), warn=console.print), console)
    data = study.store.result(first.needs[-1]).get("data", {})
    with console.status(f"{first.run}: compressing") as status:
        for number, item in enumerate(items, start=1):
            status.update(f"{first.run}: compressing, {number} of {len(items)}")
            assert item.compression is not None
            rows, examples = measure(item.compression)
            yield Result(
                item=item.name,
                stage=item.stage,
                fields={**item.fields, **primary_fields(measure.metric)},
                rows=rows,
                made=made(),
                data=data,
                examples=examples,
            )
    console.print(f"{first.run}: compressed in {len(items)} ways")


def chosen_combination(item: Item, study: StudyFolder) -> str:
    """The combination of the search with the best mean over its seeds on the tuning set, of equals the one
    with the lowest loss; the reported sets have no influence. '' without finetuning."""
    values: dict[str, dict[str, list[float]]] = {}
    fields: dict[str, Any] = {}
    for finetuning in item.needs:
        result = study.store.result(finetuning)
        fields = result["fields"]
        if (combination := fields.get("combination")) is None:
            return ""
        for row in result["rows"]:
            if row.get("last") and row["set"] == "tuning":
                lists = values.setdefault(str(combination), {})
                lists.setdefault(str(row["metric"]), []).append(float(row["value"]))
    metric = metric_of(fields)
    by_loss = sorted(values, key=lambda each: statistics.fmean(values[each]["loss"]))
    return metric.best(by_loss, lambda each: statistics.fmean(values[each][metric.name]))


class CompressedMeasurer:
    """Measures one model under several compressions; each shape is compiled once."""

    def __init__(self, model: TrainedModel, console: Console):
        self._model, self._console = model, console
        self._task = task = task_of(model)
        self.metric = task.primary_metric
        tuning, reported = task.evaluation_sets()[0], task.reported_sets()[:1]
        self._roles = {tuning: "tuning" if reported else "both", **dict.fromkeys(reported, "reported")}
        at_once, mesh = model.config.at_once, model.mesh
        self._evaluate = Evaluator(task, at_once, mesh, decode=True, between=stopping.check)
        self._score = ExampleScorer(task, at_once, mesh)

    def __call__(self, config: CompressConfig) -> tuple[list[Row], dict[str, PackedScores]]:
        """The metrics of the set that choices are made on and of the first reported one (`role`; "both" where
        there is one set for both), with sizes in bytes, and the scores of the examples that are reported."""
        compressed = compress_model(self._model, recipe_of(config), self._console)
        params = jax.device_put(compressed.params, replicated(self._model.mesh))
        about = self._about(compressed, config)
        rows: list[Row] = []
        for key, value in self._evaluate(params, list(self._roles)).items():
            _, name, metric = key.split("/", 2)
            rows.append({**about, "set": name, "role": self._roles[name], "metric": metric, "value": value})
        for key, value in self._task.baselines().items():
            name, metric = key.split("/", 1)
            rows.append({"set": name, "metric": metric, "value": value})
        reported = [name for name, role in self._roles.items() if role != "tuning"]
        return rows, {name: pack_scores(*self._score(params, name)) for name in reported}

    def _about(self, compressed: CompressedModel, config: CompressConfig) -> Row:
        return {
            "step": self._model.step,
            "paper_bytes": float(compressed.sizes.paper_bytes),
            "format_bytes": compressed.sizes.format_bytes,
            "file_bytes": compressed.file_bytes(config.zstd),
            "parameters": compressed.sizes.weights,
            "nonzeros": compressed.sizes.nonzeros,
        }
