"""The conclusions of a study in sentences and in a table: drawn from its results only, and no more than they
support."""

from __future__ import annotations

import math

from rich.table import Table

from tlc_jax.studies.frontier import MeasuredModel, best, compressed_models, ranked
from tlc_jax.studies.result_store import ResultStore
from tlc_jax.studies.statistics import difference
from tlc_jax.tasks.metric import ACCURACY

KILOBYTE = 1000


def headline(store: ResultStore) -> list[str]:
    """Sentences on perplexity at equal time, then on which size is best for which memory."""
    models, first = compressed_models(store), store.find(stage="compress")[0]
    return [*_pretraining(store), *_compression(models, first[f"linear_{models[0].metric.name}"])]


def _pretraining(store: ResultStore) -> list[str]:
    curves = store.find(stage="pretrain")
    ends = {curve["size"]: curve["perplexity"][-1] for curve in curves}
    seconds, bigram = max(curve["training_seconds"][-1] for curve in curves), curves[0]["bigram_perplexity"]
    summary = (
        f"After {seconds:.0f} s of training each, held-out perplexity: "
        + ", ".join(f"{size} {perplexity:.1f}" for size, perplexity in ends.items())
        + f" (unigram {curves[0]['unigram_perplexity']:.1f}, bigram {bigram:.1f})."
    )
    ahead = min(ends, key=ends.__getitem__)
    if ends[ahead] > bigram:
        return [
            summary,
            "Sizes are not resolved in this time: every model is still above the bigram line, so none has "
            "learnt more than the frequencies of pairs of words.",
        ]
    return [summary, f"{ahead} is ahead at equal time, with one pretraining each."]


def _compression(models: list[MeasuredModel], linear: float) -> list[str]:
    """A sentence for each doubling of the memory that changes the sizes' best models, and one if the metric
    `linear` of the bag of words is better than that of every model."""
    sizes = list(dict.fromkeys(model.size for model in models))
    metric, texts, previous = models[0].metric, [], None
    for limit in _doublings(models):
        chosen = [best((m for m in models if m.size == size), limit) for size in sizes]
        order = ranked(model for model in chosen if model is not None)
        if not order or order == previous:
            continue
        previous, first = order, order[0]
        text = f"Up to {limit / KILOBYTE:,.0f} kB: {first}, {metric.name} {value(first)}"
        if len(order) > 1:
            text += f"; against {order[1]}, {value(order[1])}: {between(*order[:2])}"
        texts.append(text + ".")
    if not any(metric.better(model.value, linear) for model in models):
        texts.append(f"The bag of words, {linear:.4f}, is at least as good as every model here.")
    seeds = len(models[0].values)
    texts.append(
        f"The model named first is the best on the tuning set; {metric.name} is that of the reported set, "
        "where another may be best; memory is the paper's measure. "
        + (f"{seeds} seeds of finetuning each." if seeds > 1 else "One seed each: another may differ more.")
    )
    return texts


def _doublings(models: list[MeasuredModel]) -> list[float]:
    """Memory limits in bytes: a kilobyte times powers of two, from the smallest model to the largest."""
    ends = (math.ceil(math.log2(end(model.paper_bytes for model in models) / KILOBYTE)) for end in (min, max))
    first, last = ends
    return [KILOBYTE * 2.0**exponent for exponent in range(first, last + 1)]


def between(first: MeasuredModel, second: MeasuredModel) -> str:
    """The difference of two models in the share of correct examples, and whether it is resolved."""
    name = "" if first.metric.name == ACCURACY.name else f"{ACCURACY.name} "
    return f"{name}{difference(first.correct, second.correct)}"


def value(model: MeasuredModel) -> str:
    """The metric on the reported set, with its standard error if that is known."""
    error = model.standard_error
    return f"{model.value:.4f} +- {error:.4f}" if error else f"{model.value:.4f}"


def table(store: ResultStore) -> Table:
    """Every compressed model: its metric and memory by size, sparsity and bits."""
    models, first = compressed_models(store), store.find(stage="compress")[0]
    name = models[0].metric.name
    table = Table(title=f"{name} on {first['set']} ({first['examples']:,} examples); paper bytes")
    table.add_column("size")
    table.add_column("sparsity")
    levels = sorted({model.bits for model in models}, reverse=True)
    for bits in levels:
        table.add_column(f"{bits} bits", justify="right")
    for size, sparsity in dict.fromkeys((model.size, model.sparsity) for model in models):
        row = {m.bits: m for m in models if (m.size, m.sparsity) == (size, sparsity)}
        cells = (
            f"{row[bits].value:.4f}  {row[bits].paper_bytes / KILOBYTE:,.0f} kB" if bits in row else ""
            for bits in levels
        )
        table.add_row(size, f"{100 * sparsity:.0f} %", *cells)
    majority, linear = (first[f"{baseline}_{name}"] for baseline in ("majority", "linear"))
    table.caption = f"majority class {majority:.4f}, bag of words {linear:.4f}"
    return table
