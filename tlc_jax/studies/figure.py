"""The paper's two main plots (figures 1 and 2): perplexity over time, and the task's metric over memory."""

from __future__ import annotations

from tlc_jax.storage.paths import AnyPath
from tlc_jax.studies.frontier import compressed_models, frontier
from tlc_jax.studies.picture import plain, save
from tlc_jax.studies.result_store import ResultStore


def draw(store: ResultStore, path: AnyPath) -> None:
    """Write a picture with both plots."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    curves, models = store.find(stage="pretrain"), compressed_models(store)
    for number, curve in enumerate(curves):
        size, colour = curve["size"], f"C{number}"
        left.plot(curve["training_seconds"], curve["perplexity"], "o-", color=colour, label=size)
        compressed = [model for model in models if model.size == size]
        megabytes = [model.paper_bytes / 1e6 for model in compressed]
        right.scatter(megabytes, [m.value for m in compressed], s=12, color=colour, alpha=0.4)
        best = frontier(compressed)
        right.errorbar(
            [m.paper_bytes / 1e6 for m in best],
            [m.value for m in best],
            yerr=[m.standard_error for m in best],
            fmt="o-",
            capsize=2,
            color=colour,
            label=size,
        )
    for name, style in (("unigram", ":"), ("bigram", "--")):
        value = curves[0][f"{name}_perplexity"]
        left.axhline(value, color="grey", linestyle=style, label=f"{name} (Witten-Bell)")
    left.set(xlabel="training seconds", ylabel="held-out perplexity", yscale="log", title="Train: equal time")
    first, metric = store.find(stage="compress")[0], models[0].metric.name
    for name, style in (("majority", ":"), ("linear", "--")):
        label = {"majority": "majority class", "linear": "bag of words"}[name]
        right.axhline(first[f"{name}_{metric}"], color="grey", linestyle=style, label=label)
    right.set(
        xlabel="memory, MB (non-zeros x bits / 8)",
        ylabel=f"{metric} on {plain(first['set'])}, chosen on tuning",
        xscale="log",
        title=f"Compress: best {metric} for each memory",
    )
    for axis in (left.yaxis, right.xaxis):  # numbers, not powers of ten
        axis.set_major_formatter("{x:g}")
    left.yaxis.set_minor_formatter("{x:g}")
    left.legend(fontsize=8)
    right.legend(fontsize=8)
    save(figure, path)
