"""What a study says, in words and in a table: drawn from results only, and no more than they carry."""

from __future__ import annotations

import math

from rich.table import Table

from tlc_jax.studies.store import Result, ResultStore


def frontier(results: list[Result]) -> list[Result]:
    """The models that no other model beats: none is both smaller (or as small) and more accurate."""
    best, found = -math.inf, []
    for result in sorted(results, key=lambda r: (r["paper_bytes"], -r["accuracy"])):
        if result["accuracy"] > best:
            best = result["accuracy"]
            found.append(result)
    return found


def headline(store: ResultStore) -> list[str]:
    """Sentences: perplexity at equal time, then the best model for each size in bytes."""
    curves = store.find(stage="pretrain")
    ends = {curve["size"]: curve["perplexity"][-1] for curve in curves}
    seconds, bigram = max(curve["training_seconds"][-1] for curve in curves), curves[0]["bigram_perplexity"]
    texts = [
        f"After {seconds:.0f} s of training each, held-out perplexity: "
        + ", ".join(f"{size} {perplexity:.1f}" for size, perplexity in ends.items())
        + f" (unigram {curves[0]['unigram_perplexity']:.1f}, bigram {bigram:.1f})."
    ]
    best = min(ends, key=ends.__getitem__)
    if ends[best] > bigram:
        texts.append(
            "Sizes are not resolved in this time: every model is still above the bigram line, so none has "
            "learnt more than pairs of words tell."
        )
    else:
        texts.append(f"{best} is ahead at equal time, one seed each.")
    for result in frontier(store.find(stage="compress")):
        texts.append(
            f"Up to {_kilobytes(result)} (paper's measure) the best is {_name(result)}, "
            f"accuracy {result['accuracy']:.4f} +- {standard_error(result):.4f}."
        )
    return texts


def standard_error(result: Result) -> float:
    """Of an accuracy over so many examples (binomial); what another seed would change is not in it."""
    return math.sqrt(result["accuracy"] * (1 - result["accuracy"]) / result["examples"])


def table(store: ResultStore) -> Table:
    """Every compressed model: accuracy by bits and sparsity, size by size."""
    results = store.find(stage="compress")
    found = Table(title=f"accuracy on {results[0]['set']} ({results[0]['examples']:,} examples); paper bytes")
    found.add_column("size")
    found.add_column("sparsity")
    levels = sorted({result["bits"] for result in results}, reverse=True)
    for bits in levels:
        found.add_column(f"{bits} bits", justify="right")
    for size in dict.fromkeys(result["size"] for result in results):
        for sparsity in sorted({result["sparsity"] for result in results}):
            cells = []
            for bits in levels:
                own = store.find(stage="compress", size=size, sparsity=sparsity, bits=bits)
                cells.append(f"{own[0]['accuracy']:.4f}  {_kilobytes(own[0])}" if own else "")
            found.add_row(size, f"{100 * sparsity:.0f} %", *cells)
    first = results[0]
    found.caption = (
        f"majority class {first['majority_accuracy']:.4f}, bag of words {first['linear_accuracy']:.4f}"
    )
    return found


def _kilobytes(result: Result) -> str:
    return f"{result['paper_bytes'] / 1000:,.0f} kB"


def _name(result: Result) -> str:
    return f"{result['size']} at {result['bits']} bits, {100 * result['sparsity']:.0f} % pruned"
