"""Stores of models that were compressed in many ways, made by hand, and what exhibits find in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from tlc_jax.studies.claims import Finding
from tlc_jax.studies.exhibits.exhibit import Exhibit
from tlc_jax.studies.item_store import ItemStore, Result, pack_scores

matplotlib.use("Agg")
WEIGHTS = 1000


@dataclass(frozen=True)
class Way:
    """A size and how it was compressed; `as_long_as` is that of a dense control."""

    size: str
    bits: int = 32
    sparsity: float = 0.0
    recovered: bool = False
    as_long_as: float | None = None
    mark: str = ""


def compressed_in_ways(
    workdir: Path,
    values: Mapping[Way, Sequence[float]],
    *,
    metric: str = "nats_per_byte",
    tuning: Mapping[Way, float] | None = None,
    file_bytes: Mapping[Way, float] | None = None,
    bleu: Mapping[Way, float] | None = None,
    gate: float | None = None,
    updates: Mapping[tuple[str, str], int] | None = None,
) -> ItemStore:
    """A store with the value on the reported set of each training (seeds 0, 1, ...), where the tuning set has
    the same values unless they are given. All models have as many weights. `updates` are those of a size at a
    mark."""
    store, packed = ItemStore(workdir), pack_scores(np.ones(2), np.ones(2))
    for number, (way, seeds) in enumerate(values.items()):
        for seed, value in enumerate(seeds):
            paper = WEIGHTS * (1 - way.sparsity) * way.bits / 8
            about = {
                "file_bytes": (file_bytes or {}).get(way, paper + 24),
                "paper_bytes": paper,
                "metric": metric,
                **({"step": updates[way.size, way.mark]} if updates else {}),
            }
            rows: list[dict[str, Any]] = [
                {**about, "set": "tuning", "role": "tuning", "value": (tuning or {}).get(way, value)},
                {**about, "set": "test", "role": "reported", "value": value},
            ]
            if bleu is not None:
                rows.append(
                    {
                        **about,
                        "set": "tuning",
                        "role": "tuning",
                        "metric": "greedy_bleu",
                        "value": bleu[way] + seed,
                    }
                )
            if gate is not None:
                rows.append({"set": "test", "metric": f"target_bigram_{metric}", "value": gate})
            fields = {"size": way.size, "variant": "", "seed": seed, "mark": way.mark, "bits": way.bits}
            fields |= {"sparsity": way.sparsity, "recovered": way.recovered, "metric_of_task": metric}
            fields |= {} if way.as_long_as is None else {"as_long_as": way.as_long_as}
            store.seal(
                Result(
                    item=f"{way.size}/seed{seed}/way{number}",
                    stage="compress",
                    fields=fields,
                    rows=rows,
                    made={"device": "2 cores of CPU"},
                    examples={"test": packed},
                )
            )
    return store


def findings(exhibit: Exhibit, store: ItemStore) -> list[Finding]:
    """None where the exhibit has no rows."""
    rows = exhibit.rows(store)
    return exhibit.findings(rows) if rows else []


def drawn(exhibit: Exhibit, store: ItemStore) -> int:
    """The number of plots; the table and the sentences are made, too."""
    rows = exhibit.rows(store)
    assert exhibit.table(rows).row_count > 0
    assert exhibit.sentences(rows)
    panels = [panel for line in exhibit.panels(rows) for panel in line]
    axes = Figure().subplots(1, len(panels), squeeze=False)[0]
    for each, panel in zip(axes, panels, strict=True):
        exhibit.draw(each, panel)
        assert each.lines or each.containers
    return len(panels)
