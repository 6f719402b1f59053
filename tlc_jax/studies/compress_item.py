"""Compression items of a study: a finished model at one sparsity and number of bits, measured as the artifact
that `compress` writes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import jax
from rich.console import Console

from tlc_jax.compression.pipeline import recipe_of
from tlc_jax.config.compression import CompressConfig
from tlc_jax.core import stopping
from tlc_jax.core.errors import NotFinite
from tlc_jax.parallel.mesh import replicated
from tlc_jax.recipes.compressed_model import CompressedModel, compress_model
from tlc_jax.recipes.recover import without_training
from tlc_jax.recipes.tuning_evaluator import task_of
from tlc_jax.runs.load import TrainedModel, load_model
from tlc_jax.studies.chosen import chosen_combination
from tlc_jax.studies.failed_items import failed
from tlc_jax.studies.finished_run import check_run, kept_by, spent_in_recovery
from tlc_jax.studies.item_store import Failure, PackedScores, Result, Row, pack_scores
from tlc_jax.studies.items import Item
from tlc_jax.studies.made import made
from tlc_jax.studies.measured import primary_fields
from tlc_jax.studies.study_folder import StudyFolder
from tlc_jax.training.evaluator import Evaluator
from tlc_jax.training.example_scorer import ExampleScorer


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
    model = load_model(kept_by(first.run, study), warn=console.print)
    measure = CompressedMeasurer(decoding(model, first.unpruned, study), console)
    data = study.store.result(first.needs[-1]).get("data", {})
    spent = spent_in_recovery(study.store.result(first.run))
    with console.status(f"{first.run}: compressing") as status:
        for number, item in enumerate(items, start=1):
            status.update(f"{first.run}: compressing, {number} of {len(items)}")
            assert item.compression is not None
            try:
                rows, examples = measure(item.compression)
            except NotFinite as error:
                yield failed(item, Failure(item=item.name, reason=error.reason))
                continue
            yield Result(
                item=item.name,
                stage=item.stage,
                fields={**item.fields, **primary_fields(measure.metric)},
                rows=[{**row, **spent} if "role" in row else row for row in rows],
                made=made(),
                data=data,
                examples=examples,
            )
    console.print(f"{first.run}: compressed in {len(items)} ways")


def decoding(model: TrainedModel, unpruned: str, study: StudyFolder) -> TrainedModel:
    """The model with the task of the training that it was pruned from: rounds decode nothing."""
    if not unpruned or not study.run(unpruned).exists():
        return model
    task = study.run(unpruned).read_config().task
    return dataclasses.replace(model, config=dataclasses.replace(model.config, task=task))


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
        recipe = without_training(recipe_of(config))  # a model that was pruned in rounds has had it
        compressed = compress_model(self._model, recipe, self._console, config.calibration_text)
        if compressed.model is self._model:
            return self._measured(compressed, config)
        # it has other shapes, or other tokens
        return CompressedMeasurer(compressed.model, self._console)._measured(compressed, config)

    def _measured(
        self, compressed: CompressedModel, config: CompressConfig
    ) -> tuple[list[Row], dict[str, PackedScores]]:
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
            "file_bytes": compressed.file_bytes(config.coding),
            "parameters": compressed.sizes.weights,
            "nonzeros": compressed.sizes.nonzeros,
        }
