"""What a study says, in words and in a table: drawn from results only, and no more than they carry."""

from __future__ import annotations

import math

from rich.table import Table

from tlc_jax.studies.models import CompressedModel, best, compressed_models
from tlc_jax.studies.result_store import ResultStore
from tlc_jax.studies.statistics import Difference, difference

KILOBYTE = 1000


def headline(store: ResultStore) -> list[str]:
    """Sentences: perplexity at equal time, then which size is best for which memory."""
    linear = store.find(stage="compress")[0]["linear_accuracy"]
    return [*_pretraining(store), *_compression(compressed_models(store), linear)]


def _pretraining(store: ResultStore) -> list[str]:
    curves = store.find(stage="pretrain")
    ends = {curve["size"]: curve["perplexity"][-1] for curve in curves}
    seconds, bigram = max(curve["training_seconds"][-1] for curve in curves), curves[0]["bigram_perplexity"]
    said = (
        f"After {seconds:.0f} s of training each, held-out perplexity: "
        + ", ".join(f"{size} {perplexity:.1f}" for size, perplexity in ends.items())
        + f" (unigram {curves[0]['unigram_perplexity']:.1f}, bigram {bigram:.1f})."
    )
    ahead = min(ends, key=ends.__getitem__)
    if ends[ahead] > bigram:
        return [
            said,
            "Sizes are not resolved in this time: every model is still above the bigram line, so none has "
            "learnt more than pairs of words tell.",
        ]
    return [said, f"{ahead} is ahead at equal time, one pretraining each."]


def _compression(models: list[CompressedModel], linear: float) -> list[str]:
    """A sentence for each doubling of the memory at which the sizes' best models are others, and one where
    the bag of words' accuracy `linear` is above them all."""
    sizes = list(dict.fromkeys(model.size for model in models))
    texts, told = [], None
    for limit in _doublings(models):
        chosen = [best((m for m in models if m.size == size), limit) for size in sizes]
        there = sorted((m for m in chosen if m is not None), key=lambda m: -m.tuning_accuracy)
        if not there or there == told:
            continue
        told, first = there, there[0]
        text = f"Up to {limit / KILOBYTE:,.0f} kB: {first}, accuracy {accuracy(first)}"
        if len(there) > 1:
            text += f"; against {there[1]}, {accuracy(there[1])}: {between(*there[:2])}"
        texts.append(text + ".")
    if linear >= max(model.accuracy for model in models):
        texts.append(f"The bag of words, {linear:.4f}, is more accurate than every model here.")
    seeds = len(models[0].correct)
    texts.append(
        "Named first is what the tuning set chose; accuracies are of the other set, which may say otherwise; "
        "memory is the paper's measure. "
        + (f"{seeds} seeds of finetuning each." if seeds > 1 else "One seed each: another may differ more.")
    )
    return texts


def _doublings(models: list[CompressedModel]) -> list[float]:
    """Memory limits in bytes: powers of two kilobytes, from the smallest model's to the largest's."""
    ends = (math.ceil(math.log2(end(model.paper_bytes for model in models) / KILOBYTE)) for end in (min, max))
    first, last = ends
    return [KILOBYTE * 2.0**exponent for exponent in range(first, last + 1)]


def between(one: CompressedModel, other: CompressedModel) -> Difference:
    return difference(one.correct, other.correct)


def accuracy(model: CompressedModel) -> str:
    return f"{model.accuracy:.4f} +- {model.standard_error:.4f}"


def table(store: ResultStore) -> Table:
    """Every compressed model: accuracy by bits and sparsity, size by size."""
    models, first = compressed_models(store), store.find(stage="compress")[0]
    found = Table(title=f"accuracy on {first['set']} ({first['examples']:,} examples); paper bytes")
    found.add_column("size")
    found.add_column("sparsity")
    levels = sorted({model.bits for model in models}, reverse=True)
    for bits in levels:
        found.add_column(f"{bits} bits", justify="right")
    for size, sparsity in dict.fromkeys((model.size, model.sparsity) for model in models):
        own = {m.bits: m for m in models if (m.size, m.sparsity) == (size, sparsity)}
        cells = (
            f"{own[bits].accuracy:.4f}  {own[bits].paper_bytes / KILOBYTE:,.0f} kB" if bits in own else ""
            for bits in levels
        )
        found.add_row(size, f"{100 * sparsity:.0f} %", *cells)
    majority, linear = first["majority_accuracy"], first["linear_accuracy"]
    found.caption = f"majority class {majority:.4f}, bag of words {linear:.4f}"
    return found
