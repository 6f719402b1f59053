"""From a run to an artifact: prune, quantize and write a trained model (paper 4)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import jax
from rich.console import Console

from tlc_jax.artifacts.artifact import WEIGHTS, check_new, is_artifact, write_artifact
from tlc_jax.artifacts.model_card import ModelCard
from tlc_jax.artifacts.model_record import MetricRecord
from tlc_jax.compression.pipeline import recipe_of
from tlc_jax.config.compression import CompressConfig
from tlc_jax.core.errors import UserError
from tlc_jax.core.progress import stage
from tlc_jax.core.stacked import split
from tlc_jax.core.tree import Params
from tlc_jax.recipes.byte_budget import has_budget
from tlc_jax.recipes.calibration import UNREAD_TEXT, calibrated
from tlc_jax.recipes.compressed_model import CompressedModel, compress_model, to_round
from tlc_jax.recipes.fidelity import Advice, Fidelity, report_coarse, report_errors
from tlc_jax.recipes.finished_round import Round
from tlc_jax.recipes.guaranteed_drop import smallest_certain
from tlc_jax.recipes.kept_tokens import unseen
from tlc_jax.recipes.recover import prune_in_rounds, trains, without_training
from tlc_jax.recipes.tuning_evaluator import evaluator_of, report_metrics
from tlc_jax.runs.card import MADE_BY, card_of, use_of_artifact
from tlc_jax.runs.load import TrainedModel, load_model
from tlc_jax.runs.primary_metric import primary_metric, recorded
from tlc_jax.runs.record_model import record_model
from tlc_jax.storage.paths import AnyPath
from tlc_jax.storage.sealed import Damaged, read_manifest
from tlc_jax.tasks.base import Task

_TRIES = 5


def compress_run(
    reference: str,
    config: CompressConfig,
    out: AnyPath,
    workdir: AnyPath | None,
    console: Console,
    loaded: TrainedModel | None = None,
) -> dict[str, Any]:
    """Write the artifact of a run to the new folder `out` and return its manifest. The rounds of a recipe
    with recovery are runs in `workdir`. Prints the metrics on the sets that the run was tuned on, before and
    after. `loaded` is the model of `reference` where it must be no later one."""
    check_new(out)
    recipe, rounds, given = recipe_of(config), list[Round](), reference
    if config.calibration_text is not None and not (
        calibrated(recipe) or has_budget(recipe) or any(step.reads_tokens for step in recipe)
    ):
        raise UserError(UNREAD_TEXT)
    if trains(recipe):
        if workdir is None:
            raise UserError("the recipe prunes in rounds: give --workdir, a folder for their runs")
        reference, rounds = prune_in_rounds(reference, recipe, workdir, console)
        recipe = without_training(recipe)
    original, source = _load(reference, console, None if rounds else loaded)
    if source.get("compressed_before"):
        console.print(
            f"note: {reference} is compressed already, and its weights lose a second time: compress its run "
            "instead"
        )
    certain = None if config.max_drop is None else smallest_certain(original, config, console)
    if certain is not None:
        config = certain.config
        result = certain.result
    else:
        trained = to_round(original, recipe)
        result = compress_model(trained, recipe, console, config.calibration_text)
    fidelity = Fidelity()
    items = result.items(fidelity)
    dense = load_model(given, warn=console.print) if rounds else original
    changed = bool(fidelity.overall) or result.model is not original
    training: dict[str, Any] = {**record_model(dense, console)}
    training.pop("metric", None)  # of an artifact that is compressed again
    training |= {**_recovered(rounds), **_metric(dense, result, changed, console)}
    about = {
        "made_by": MADE_BY,
        "source": source,
        **_compressed_by(config, result, rounds),
        "training": training,
        **({"guarantee": certain.report} if certain else {}),
        "label_names": list(original.label_names),
        **({"texts_per_example": texts} if (texts := original.texts_per_example) else {}),
        "size": asdict(result.sizes),
        "relative_error": fidelity.overall,
    }
    others = {
        "config.json": f"{json.dumps(asdict(result.model.config), indent=1)}\n".encode(),
        **result.model.tokenizer_files(),
    }

    def card(manifest: Mapping[str, Any]) -> ModelCard:
        use = use_of_artifact(result.model)
        return card_of(result.model, manifest["training"], use, library="tlc-jax", manifest=manifest)

    return write_artifact(out, items, lambda: about, others, coding=config.coding, card=card)


def _recovered(rounds: Sequence[Round]) -> dict[str, Any]:
    """What the rounds of pruning add to the record of a training."""
    if not rounds:
        return {}
    seconds = sum(finished.training_seconds for finished in rounds)
    return {"recovery_updates": sum(finished.steps for finished in rounds), "recovery_seconds": seconds}


def _compressed_by(
    config: CompressConfig, result: CompressedModel, rounds: Sequence[Round]
) -> dict[str, Any]:
    """What a manifest says of the compression."""
    return {
        "compression": config.recorded(),
        "recipe": [step.recorded() for step in recipe_of(config)],
        **({"recovery": [finished.record() for finished in rounds]} if rounds else {}),
        **({"target": result.fit.report} if result.fit else {}),
        **({"vocabulary": _vocabulary(result.model)} if result.model.vocabulary else {}),
    }


def _vocabulary(model: TrainedModel) -> dict[str, int]:
    """The tokens that are left, and how many there were."""
    assert model.vocabulary is not None
    return {"kept": len(model.vocabulary.kept), "before": model.vocabulary.rows}


def _metric(
    original: TrainedModel, result: CompressedModel, changed: bool, console: Console
) -> dict[str, MetricRecord]:
    """The primary metric of the compressed model, which may have fewer heads, and of the original one, before
    any round of pruning. Prints all metrics of both if the weights have `changed`."""
    try:
        evaluate = evaluator_of(original)
    except UserError as error:  # there are no data
        if changed:
            console.print(f"not evaluated before and after compression: {error}")
        return {}
    if not changed:
        return recorded(_primary_metric(original, evaluate.task, original.params), console)
    with stage(console, "evaluating", 2, "models", only_long=True) as advance:
        before = evaluate(split(jax.device_get(original.params)))
        advance(1)
        if result.model is not original:
            evaluate = evaluator_of(result.model)
            _report_unseen(original, result.model, evaluate.task, console)
        after = evaluate(result.compressed.dense())
        advance(1)
    report_metrics(before, after, console)
    measured = _primary_metric(result.model, evaluate.task, result.params)
    return recorded({**measured, "before": before[evaluate.key]}, console)


def _report_unseen(original: TrainedModel, model: TrainedModel, task: Task, console: Console) -> None:
    """Say how many tokens of the sets that are evaluated on are gone."""
    if model.vocabulary is None:
        return
    for name in task.evaluation_sets():
        gone, total = unseen(original, model.vocabulary, name)
        console.print(
            f"{name}: {gone:,} of {total:,} tokens are gone and count as unknown here; the artifact's "
            "tokenizer makes smaller ones of their text, if it has any"
        )


def _primary_metric(model: TrainedModel, task: Task, params: Params) -> MetricRecord:
    return primary_metric(task, params, model.config.at_once, model.mesh)


def report(
    manifest: dict[str, Any], config: CompressConfig, out: AnyPath, console: Console, advice: Advice
) -> None:
    """Print how far the weights are from the trained ones, and the three sizes beside float32."""
    report_errors(manifest, console)
    size, file = manifest["size"], manifest["files"][WEIGHTS]["bytes"]
    dense, zeros = size["float32_bytes"], 1 - size["nonzeros"] / size["weights"]
    console.print(
        f"{size['weights']:,} weights, {100 * zeros:.1f} % of them zero; {dense:,} bytes as float32"
    )
    for name, count in (("paper", size["paper_bytes"]), ("format", size["format_bytes"]), ("file", file)):
        console.print(f"  {name:6s} {count:12,.0f} bytes  {dense / count:5.2f} times smaller")
    console.print(f"written to {out}")
    report_coarse(manifest, config, out, console, advice)


def _load(
    reference: str, console: Console, loaded: TrainedModel | None
) -> tuple[TrainedModel, dict[str, Any]]:
    """The model and its source. A run that is still training may delete the checkpoint that was just read:
    then the newest one is read, unless the model is `loaded`."""
    if loaded is not None:
        try:
            return loaded, _source(loaded)
        except Damaged as damage:
            raise UserError(
                f"{reference} no longer has the checkpoint of step {loaded.step:,}, or it is damaged "
                f"({damage}): load the model again"
            ) from damage
    for _ in range(_TRIES):
        model = load_model(reference, warn=console.print)
        try:
            return model, _source(model)
        except Damaged:
            continue
    raise UserError(f"{reference} changes faster than it can be read: stop its run, or give one of its marks")


def _source(model: TrainedModel) -> dict[str, Any]:
    """The checkpoints of a model, identified by their content and not by their path."""
    if is_artifact(model.rundir.root):
        return {**read_manifest(model.rundir.root)["source"], "compressed_before": True}
    parameters = {str(step): _parameters(model, step) for step in model.steps}
    if len(parameters) == 1:
        return {"kind": "run", "step": model.step, "parameters": parameters[str(model.step)]}
    return {"kind": "run", "step": model.step, "mean_of": parameters}


def _parameters(model: TrainedModel, step: int) -> dict[str, Any]:
    """The fingerprints of a checkpoint's parameters."""
    files = read_manifest(model.rundir.checkpoints / str(step))["files"]
    return {name: fingerprint for name, fingerprint in files.items() if name.startswith("params/")}
