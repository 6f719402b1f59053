"""Errors of quantization and of pruning module by module, to explain why large models compress better (paper
5.3), and the error for its bytes of each range and granularity."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import jax
from rich.console import Console

from tlc_jax.compression.methods import PruneMagnitude, Quantize
from tlc_jax.compression.pipeline import compress
from tlc_jax.compression.quantize import block_shape
from tlc_jax.compression.weight_errors import by_module, over, tensor_errors, total_error
from tlc_jax.config.quantization import QuantSpec
from tlc_jax.config.report_options import ErrorsConfig
from tlc_jax.core import stopping
from tlc_jax.core.leaf import Masks
from tlc_jax.core.stacked import Tensors, split
from tlc_jax.inference.model_with_data import load_with_data
from tlc_jax.recipes.tuning_evaluator import TuningEvaluator
from tlc_jax.runs.load import TrainedModel, load_model
from tlc_jax.studies.rows import Result, Results
from tlc_jax.tasks.kinds import kind_of
from tlc_jax.training.state import seed_keys

BITS = (8, 6, 5, 4, 3, 2)
RANGES = ("minmax", "percentile:0.1", "mse")
ZEROS: tuple[Literal["float", "nudged"], ...] = ("float", "nudged")
ALL = "all matrices"
PAPER_BITS, PAPER_SPARSITY = 4, 0.6
"""Of figure 9."""

Evaluate = Callable[[Tensors], dict[str, float]]


def measure_errors(config: ErrorsConfig, console: Console) -> Results:
    """Results of each run: one per module class under quantization with each range and under pruning (`kind`
    quantize, prune), and one per combination of bits, ranges, zeros and granularities (`kind` grid). With
    `config.evaluate` each combination is also evaluated, on the set that the run was tuned on. Results by
    module with `untrained` are those of the same network before its first update, the control: what they
    share with the trained ones comes from the initialiser."""
    results: list[Result] = []
    for run in config.run:
        model = load_model(run, warn=console.print)
        tensors = split(jax.device_get(model.params))  # one device is enough
        name = f"{model.config.model.num_layers}x{model.config.model.hidden_size}"
        label = {"run": run, "model": name, "step": model.step}
        evaluate = _evaluator(run, console) if config.evaluate else None
        specs = [QuantSpec(config.bits, range=how, zero="float") for how in RANGES]
        modules = with_control(tensors, model, specs, PruneMagnitude(config.sparsity))
        for result in itertools.chain(modules, _of_grid(tensors, model.masks, evaluate)):
            stopping.check()
            results.append({**label, **result})
    return Results(results)


def untrained(model: TrainedModel) -> Tensors:
    """The tensors that a run of this model's config begins with: those of its seed, initialised afresh."""
    objective = kind_of(model.config).objective(model.config, len(model.label_names))
    key, _ = seed_keys(model.config.seed)
    return split(jax.device_get(jax.jit(objective.init)(key)))


def _evaluator(run: str, console: Console) -> Evaluate:
    loaded = load_with_data(run, console)
    return TuningEvaluator(loaded.task, loaded.config, loaded.mesh)


def with_control(
    tensors: Tensors, model: TrainedModel, specs: Sequence[QuantSpec], pruning: PruneMagnitude
) -> Iterator[Result]:
    """The errors by module of the tensors of a model and, with `untrained`, those of the same network before
    its first update: quantized by each of `specs`, and pruned."""
    for result in _of_modules(tensors, model.masks, specs, pruning):
        yield {"untrained": False, **result}
    for result in _of_modules(untrained(model), {}, specs, pruning):
        yield {"untrained": True, **result}


def _of_modules(
    tensors: Tensors, masks: Masks, specs: Sequence[QuantSpec], pruning: PruneMagnitude
) -> Iterator[Result]:
    """Matrices only: vectors are not pruned, and figure 9 has none."""
    matrices = {name: x for name, x in tensors.items() if x.ndim == 2}
    for spec in specs:
        quantized = compress(matrices, (Quantize(spec),), masks=masks).dense()
        yield from _by_module(matrices, quantized, {"kind": "quantize", **dataclasses.asdict(spec)})
    pruned = compress(tensors, (pruning,), masks=masks)
    chosen = {name: x for name, x in pruned.dense().items() if pruned.rules[name].prune}
    yield from _by_module(tensors, chosen, {"kind": "prune", "sparsity": pruning.sparsity})


def _by_module(tensors: Tensors, compressed: Tensors, fields: Result) -> Iterator[Result]:
    errors = tensor_errors(tensors, compressed)
    for module, error in {**by_module(errors), ALL: over(list(errors.values()))}.items():
        yield {**fields, "module": module, **dataclasses.asdict(error)}


def _of_grid(tensors: Tensors, masks: Masks, evaluate: Evaluate | None) -> Iterator[Result]:
    """Error and bytes of the whole model, with every parameter quantized."""
    granularities = ("tensor", "row", f"group:{_group(tensors)}")
    for granularity, how, zero, bits in itertools.product(granularities, RANGES, ZEROS, BITS):
        spec = QuantSpec(bits, granularity, how, zero)
        compressed = compress(tensors, (Quantize(spec),), masks=masks)
        values, size = compressed.dense(), compressed.sizes()
        yield {
            "kind": "grid",
            **dataclasses.asdict(spec),
            "relative_error": total_error(tensors, values),
            "format_bytes": size.format_bytes,
            "bits_per_weight": 8 * size.format_bytes / size.weights,
            **(evaluate(values) if evaluate else {}),
        }


def _group(tensors: Tensors) -> int:
    """64 neighbours, or the largest divisor of 64 that divides every row."""
    rows = (block_shape(name, x.shape, QuantSpec(granularity="row")) for name, x in tensors.items())
    lengths = (max(row) for row, x in zip(rows, tensors.values(), strict=True) if x.ndim == 2)
    return math.gcd(64, *lengths)
