"""Why large models compress better: errors of quantization and of pruning, module by module (paper 5.3), and
what the choice of the range and of what shares one is worth for its bytes."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator

import jax
from rich.console import Console

from tlc_jax.compression.account import account
from tlc_jax.compression.prune import apply_masks, magnitude_masks
from tlc_jax.compression.quantize import block_shape, dequantize, quantize
from tlc_jax.compression.select import paper_rules, prunable, select, specs
from tlc_jax.compression.weight_errors import by_module, over, tensor_errors, total_error
from tlc_jax.config.quantization import QuantSpec
from tlc_jax.config.study_options import ErrorsConfig
from tlc_jax.core import stopping
from tlc_jax.core.stacked import Tensors, split
from tlc_jax.inference.load import LoadedModel, load_model
from tlc_jax.runs.restore import TrainedModel, trained_model
from tlc_jax.studies.result_store import Results
from tlc_jax.studies.results import Result
from tlc_jax.training.evaluator import TensorEvaluator

BITS = (8, 6, 5, 4, 3, 2)
RANGES = ("minmax", "percentile:0.1", "mse")
ALL = "all matrices"


def measure_errors(config: ErrorsConfig, console: Console) -> Results:
    """Results of each run: one for each module class under quantization with each range and
    under pruning (`kind` quantize, prune), and for each choice on the grid of bits, ranges and granularities
    (`kind` grid). With `config.evaluate` the choices on the grid are evaluated too, on the set that the run
    is tuned on."""
    found: list[Result] = []
    for run in config.run:
        model = trained_model(run, console.print)
        name = f"{model.config.model.num_layers}x{model.config.model.hidden_size}"
        label = {"run": run, "model": name, "step": model.step}
        choices = _of_choices(model, load_model(run, console) if config.evaluate else None)
        for result in itertools.chain(_of_modules(model, config), choices):
            stopping.check()
            found.append({**label, **result})
    return Results(found)


def _of_modules(model: TrainedModel, config: ErrorsConfig) -> Iterator[Result]:
    """Matrices only: of vectors nothing is pruned, and figure 9 has none."""
    tensors = split(jax.device_get(model.params))  # then one device is enough
    matrices = {name: x for name, x in tensors.items() if x.ndim == 2}
    for how in RANGES:
        spec = QuantSpec(config.bits, range=how)
        found = dequantize(quantize(matrices, dict.fromkeys(matrices, spec), {}))
        yield from _lines(matrices, found, {"kind": "quantize", "bits": config.bits, "range": how})
    chosen = prunable(tensors, select(tensors, paper_rules(tensors, QuantSpec())))
    masks = magnitude_masks(chosen, config.sparsity, previous=model.masks)
    yield from _lines(chosen, apply_masks(chosen, masks), {"kind": "prune", "sparsity": config.sparsity})


def _lines(tensors: Tensors, found: Tensors, what: Result) -> Iterator[Result]:
    errors = tensor_errors(tensors, found)
    for module, error in {**by_module(errors), ALL: over(list(errors.values()))}.items():
        yield {**what, "module": module, **dataclasses.asdict(error)}


def _of_choices(model: TrainedModel, loaded: LoadedModel | None) -> Iterator[Result]:
    """Error and bytes of the whole model, every parameter quantized."""
    tensors = split(jax.device_get(model.params))
    evaluate = None if loaded is None else TensorEvaluator(loaded.task, loaded.config, loaded.mesh)
    for granularity in ("tensor", "row", f"group:{_group(tensors)}"):
        for how in RANGES:
            for bits in BITS:
                spec = QuantSpec(bits, granularity, how)
                own = specs(select(tensors, paper_rules(tensors, spec)))
                quantized = quantize(tensors, own, model.masks)
                found = dequantize(quantized)
                size = account(quantized, model.masks)
                yield {
                    "kind": "grid",
                    **dataclasses.asdict(spec),
                    "relative_error": total_error(tensors, found),
                    "format_bytes": size.theoretical,
                    "bits_per_weight": 8 * size.theoretical / size.weights,
                    **(evaluate(found) if evaluate else {}),
                }


def _group(tensors: Tensors) -> int:
    """64 neighbours, or the most below that divide every row."""
    rows = (block_shape(name, x.shape, QuantSpec(granularity="row")) for name, x in tensors.items())
    return math.gcd(64, *(max(own) for own, x in zip(rows, tensors.values(), strict=True) if x.ndim == 2))
