"""Errors items of a study: what quantization and pruning change in each kind of matrix of a finished model,
and of the same network before its first update (paper 5.3, figure 9)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

import jax

from tlc_jax.compression.methods import PruneMagnitude
from tlc_jax.config.compression import CompressConfig
from tlc_jax.config.quantization import QuantSpec
from tlc_jax.core.stacked import split
from tlc_jax.runs.load import TrainedModel, load_model
from tlc_jax.studies.chosen import chosen_combination
from tlc_jax.studies.compression_errors import PAPER_BITS, PAPER_SPARSITY, with_control
from tlc_jax.studies.finished_run import check_run, kept_by
from tlc_jax.studies.item_store import Result, Row
from tlc_jax.studies.items import Item
from tlc_jax.studies.made import made
from tlc_jax.studies.study_folder import StudyFolder


def errors_item(item: Item, study: StudyFolder) -> Result:
    """The errors of the weights of a finished model; none if it is that of a finetuning which was not
    chosen."""
    rows: list[Row] = []
    if item.fields.get("combination", "") == chosen_combination(item, study):
        check_run(item.run, study)
        model = load_model(kept_by(item.run, study), warn=study.console.print)
        rows = list(_rows(model, study.config.compression))
        study.console.print(f"{item.run}: errors of its weights measured")
    data = study.store.result(item.needs[-1]).get("data", {})
    return Result(item=item.name, stage=item.stage, fields=item.fields, rows=rows, made=made(), data=data)


def _rows(model: TrainedModel, compression: CompressConfig) -> Iterator[Row]:
    """A row for each error, absolute and relative: `value` is its mean over the layers that have a `module`,
    `deviation` the standard deviation. The paper's quantizer and the study's are measured, where they
    differ."""
    study_spec = dataclasses.replace(compression.spec, bits=PAPER_BITS)
    specs = dict.fromkeys((QuantSpec(PAPER_BITS, "tensor", "minmax", "float"), study_spec))
    pruning = PruneMagnitude(PAPER_SPARSITY, compression.scope, compression.max_tensor_sparsity)
    tensors = split(jax.device_get(model.params))
    for result in with_control(tensors, model, tuple(specs), pruning):
        spread = {name: result.pop(name) for name in list(result) if name.endswith(("_mean", "_variance"))}
        for error in ("absolute", "relative"):
            yield {
                "step": model.step,
                **result,
                "metric": f"{error}_error",
                "value": spread[f"{error}_mean"],
                "deviation": math.sqrt(spread[f"{error}_variance"]),
            }
