"""What is the accuracy of each compression method at equal bytes, without training afterwards?

    python benchmarks/compression_methods.py RUN --output results/methods
    python benchmarks/compression_methods.py hf:FOLDER --config finetune_sst2 --data-dir tfds/ --workdir W \
      --output results/methods

A pretrained encoder, hf:FOLDER, is finetuned first, into W. The bytes are those of plain rounding, with
least-squares ranges by rows, at each of --bits. Every other method prunes, factors, or removes layers or
tokens, and has the most bits with which its file is as small; compensation costs no bytes. The set is the
first reported one, or the one that is tuned on where there is none. The interval is that of the difference
from the uncompressed model, paired by examples (95 %, normal approximation; studies/statistics.py).

Writes OUTPUT.json and OUTPUT.md, both with command, commit, date and device. Cost: a forward pass over the
set for each line, and with compensation some seconds for each matrix.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from about import about
from rich.console import Console

from tlc_jax import train
from tlc_jax.compression.methods import (
    KeepLayers,
    LowRank,
    PruneCompensated,
    PruneMagnitude,
    PruneNOfM,
    PruneWanda,
    QuantizeCompensated,
    TrimVocabulary,
)
from tlc_jax.compression.pipeline import recipe_of
from tlc_jax.compression.steps import Recipe
from tlc_jax.config.compression import CompressConfig
from tlc_jax.core.errors import UserError
from tlc_jax.core.tree import Params
from tlc_jax.parallel.mesh import replicated
from tlc_jax.recipes.compressed_model import CompressedModel, compress_model
from tlc_jax.recipes.tuning_evaluator import task_of
from tlc_jax.runs.load import TrainedModel, load_model
from tlc_jax.studies.statistics import difference
from tlc_jax.training.example_scorer import ExampleScorer

BITS = (8, 6, 5, 4, 3, 2)
_NORMAL = 1.96  # standard errors of a 95 % interval
QUIET = Console(quiet=True)
Scores = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Method:
    """Steps before rounding, and steps that leave files of the same size and need no data, by which the bits
    are found."""

    name: str
    steps: Recipe
    as_large: Recipe


def methods(sparsities: Sequence[float], layers: int) -> Iterator[Method]:
    """All that are compared with plain rounding; a model of so many layers."""
    compensated = QuantizeCompensated()
    yield Method("compensated", (compensated,), ())
    for share in sparsities:
        same, percent = (PruneMagnitude(share, "tensor"),), f"{100 * share:g} % pruned"
        yield Method(f"magnitude, {percent}", (PruneMagnitude(share),), (PruneMagnitude(share),))
        yield Method(f"Wanda, {percent}", (PruneWanda(share),), same)
        yield Method(f"SparseGPT, {percent}", (PruneCompensated(share), compensated), same)
    yield Method("magnitude, 2:4", (PruneNOfM(2, 4),), (PruneNOfM(2, 4),))
    yield Method("SparseGPT, 2:4", (PruneCompensated(pattern="2:4"), compensated), (PruneNOfM(2, 4),))
    for share in (0.25, 0.5):
        low_rank = (LowRank(share=share),)
        yield Method(f"low rank, {100 * share:g} % of the parameters", low_rank, low_rank)
    for kept in sorted({max(1, layers // 2), max(1, layers - 1)} - {layers}, reverse=True):
        yield Method(f"{kept} of {layers} layers", (KeepLayers(kept),), (KeepLayers(kept),))
    trimmed = (TrimVocabulary(),)
    yield Method("vocabulary trimmed", trimmed, trimmed)
    yield Method("vocabulary trimmed, compensated", (*trimmed, compensated), trimmed)


class Measurer:
    """Compresses one model, and scores it on one set beside the uncompressed one."""

    def __init__(self, model: TrainedModel):
        self._model, task = model, task_of(model)
        self.metric = task.primary_metric
        self.set = next(iter((*task.reported_sets(), *task.evaluation_sets())))
        if not self.metric.mean_over_examples:
            raise UserError(f"{self.metric.name} is no mean over examples: there is no paired interval of it")
        self._score = ExampleScorer(task, model.config.at_once, model.mesh)
        self._before = self._scores(model, model.params)
        self.uncompressed = self._row("uncompressed", None, model_bytes(model), 0.0, self._before)

    def compressed(self, bits: int, steps: Recipe) -> CompressedModel:
        """The model after these steps, the rest in codes by rows with ranges of least squares."""
        config = CompressConfig(bits=bits, granularity="row", range="mse", matrices_only=True, steps=steps)
        return compress_model(self._model, recipe_of(config), QUIET)

    def __call__(self, method: Method, limit: int | None, bits: Sequence[int] = ()) -> dict[str, Any]:
        """The line of a method with the most of BITS, or of these, that fit in `limit` bytes."""
        for count in bits or BITS:
            started = time.perf_counter()
            result = self.compressed(count, method.as_large)
            if limit is not None and result.file_bytes("plain") > limit:
                continue
            if method.steps != method.as_large:
                started = time.perf_counter()
                result = self.compressed(count, method.steps)
            seconds = time.perf_counter() - started
            scores = self._scores(result.model, result.params)
            return self._row(method.name, count, result.file_bytes("plain"), seconds, scores)
        return {"method": method.name, "bits": None}

    def _scores(self, model: TrainedModel, params: Params) -> Scores:
        score = self._score
        if model is not self._model:  # it has other shapes, or other tokens
            score = ExampleScorer(task_of(model), model.config.at_once, model.mesh)
        return score(jax.device_put(params, replicated(model.mesh)), self.set)

    def _row(self, name: str, bits: int | None, size: int, seconds: float, after: Scores) -> dict[str, Any]:
        (scores, weights), (before, _) = after, self._before
        paired = difference(scores[None], before[None], weights)
        half = _NORMAL * paired.examples_error
        return {
            "method": name,
            "bits": bits,
            "file_bytes": size,
            self.metric.name: float(scores.sum() / weights.sum()),
            "difference": paired.mean,
            "interval": [paired.mean - half, paired.mean + half],
            "seconds": seconds,
        }


def model_bytes(model: TrainedModel) -> int:
    """The file of the model in float32."""
    return compress_model(model, recipe_of(CompressConfig(bits=32)), QUIET).file_bytes("plain")


def measured(model: TrainedModel, bits: Sequence[int], sparsities: Sequence[float]) -> dict[str, Any]:
    """Lines for the bytes of each of these numbers of bits; a method that does not fit has no bits."""
    measure, rows = Measurer(model), list[dict[str, Any]]()
    for count in bits:
        plain = measure(Method("plain, by rows", (), ()), None, (count,))
        limit = plain["file_bytes"]
        for method in (None, *methods(sparsities, model.config.model.num_layers)):
            row = plain if method is None else measure(method, limit)
            rows.append({"limit": limit, **row})
            print(json.dumps(rows[-1]), flush=True)
    device = f"{jax.device_count()} x {jax.devices()[0].device_kind}"
    made = {**about(), "device": device, "set": measure.set, "metric": measure.metric.name}
    return {**made, "uncompressed": measure.uncompressed, "rows": rows}


def markdown(result: dict[str, Any]) -> str:
    """The table, below how it was made."""
    metric = result["metric"]
    made = ", ".join(result[key] for key in ("commit", "date", "machine", "device"))
    lines = [
        "# Compression methods at equal bytes",
        "",
        f"    {result['command']}",
        "",
        f"{made}. {metric} of the set {result['set']}, without training after compression; differences "
        "from the uncompressed model with 95 % intervals, paired by examples.",
        "",
        f"| method | bits | file bytes | {metric} | difference | seconds |",
        "|---|---|---|---|---|---|",
    ]
    for row in (result["uncompressed"], *result["rows"]):
        if "file_bytes" not in row:
            lines.append(f"| {row['method']} | does not fit {row['limit']:,} bytes | | | | |")
            continue
        low, high = row["interval"]
        change = f"{row['difference']:+.4f} ({low:+.4f} to {high:+.4f})"
        cells = (row["method"], row["bits"] or 32, f"{row['file_bytes']:,}", f"{row[metric]:.4f}", change)
        lines.append(f"| {' | '.join(map(str, cells))} | {row['seconds']:.1f} |")
    return "\n".join([*lines, ""])


def finetuned(args: argparse.Namespace) -> str:
    """The run that is compressed: the one that is given, or one that begins with the folder."""
    if not args.model.startswith("hf:"):
        return args.model
    if not (args.config and args.data_dir and args.workdir):
        raise UserError(f"{args.model} is finetuned first: give --config, --data-dir and --workdir")
    options = ["--config", args.config, "--data.dir", args.data_dir, "--init-from", args.model]
    train.main([*options, "--workdir", args.workdir])
    return args.workdir


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    for name in ("config", "data-dir", "workdir"):
        parser.add_argument(f"--{name}")
    parser.add_argument("--bits", type=int, nargs="+", default=[4, 3], choices=BITS)
    parser.add_argument("--sparsities", type=float, nargs="+", default=[0.3, 0.5])
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args(argv)
    model = load_model(finetuned(args))
    result = measured(model, args.bits, args.sparsities)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    args.output.with_suffix(".md").write_text(markdown(result), encoding="utf-8")


if __name__ == "__main__":
    main()
