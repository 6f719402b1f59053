"""Stores that are made by hand, for what is drawn and said of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tlc_jax.studies.item_store import ItemStore, Result, pack_scores

SMALL, LARGE = [1.500, 1.503, 1.506], [1.400, 1.403, 1.406]  # nats per byte of three seeds
RNG = np.random.default_rng(0)


def trained(
    workdir: Path,
    values: Mapping[str, Mapping[str, Sequence[float]]],
    *,
    gate: float | None = None,
    devices: Mapping[str, str] | None = None,
) -> ItemStore:
    """A store of branches: for each size and mark the nats per byte of each seed. A size has 12 x depth x
    width squared parameters."""
    store = ItemStore(workdir)
    for size, marks in values.items():
        depth, width = map(int, size.split("x"))
        for mark, seeds in marks.items():
            for seed, value in enumerate(seeds):
                about = {"set": "held_out", "training_seconds": 1200 * share(mark), "step": 10}
                about["parameters"] = 12 * depth * width**2
                rows: list[dict[str, Any]] = [
                    {**about, "metric": "nats_per_byte", "value": 9.0, "last": False},
                    {**about, "metric": "nats_per_byte", "value": value, "last": True},
                    {**about, "metric": "loss", "value": 5.0, "last": True},
                ]
                if gate is not None:
                    name = "target_bigram_nats_per_byte"
                    rows.append({**about, "step": 0, "metric": name, "value": gate, "last": False})
                fields = {"size": size, "variant": "", "seed": seed, "mark": mark}
                store.seal(
                    Result(
                        item=f"{size}/seed{seed}/at-{mark.replace('/', '-')}",
                        stage="branch",
                        fields={**fields, "metric_of_task": "nats_per_byte"},
                        rows=rows,
                        made={"device": (devices or {}).get(size, "2 cores of CPU")},
                    )
                )
    return store


def right(count: int, examples: int = 400) -> np.ndarray:
    """Scores of examples of which so many are right."""
    return (RNG.permutation(examples) < count) * 1.0


def share(mark: str) -> float:
    above, _, below = mark.partition("/")
    return float(above) / float(below or 1)


def compressed(
    workdir: Path,
    metric: str,
    models: Mapping[tuple[str, int, float], tuple[float, Sequence[float], Sequence[np.ndarray]]],
    *,
    weights: np.ndarray | None = None,
    finetunings: int = 1,
    gate: tuple[str, float] | None = None,
) -> ItemStore:
    """A store of compressed models: for each size, number of bits and kilobytes, the value on the tuning set,
    and for each training the value and the scores of the examples on the reported set. With several
    finetunings, values and scores of a training are given one after the other."""
    store = ItemStore(workdir)
    for (size, bits, kilobytes), (tuning, values, scores) in models.items():
        for number, (value, by_example) in enumerate(zip(values, scores, strict=True)):
            seed, finetuning = divmod(number, finetunings)
            about = {"file_bytes": 1000 * kilobytes, "metric": metric}
            packed = pack_scores(by_example, np.ones(len(by_example)) if weights is None else weights)
            rows: list[dict[str, Any]] = [
                {**about, "set": "tuning", "role": "tuning", "value": tuning},
                {**about, "set": "test", "role": "reported", "value": value},
            ]
            if gate is not None:
                rows.append({"set": "test", "metric": f"{gate[0]}_{metric}", "value": gate[1]})
            fields = {"size": size, "variant": "", "seed": seed, "mark": "", "bits": bits, "sparsity": 0.0}
            store.seal(
                Result(
                    item=f"{size}/seed{seed}/run{finetuning}/{bits}bits-0pruned",
                    stage="compress",
                    fields={**fields, "finetuning_seed": finetuning, "metric_of_task": metric},
                    rows=rows,
                    made={"device": "2 cores of CPU"},
                    examples={"tuning": packed, "test": packed},
                )
            )
    return store


Point = tuple[int, float, float]
"""An evaluation: step, training seconds, nats per byte."""


def evaluated(
    workdir: Path,
    trainings: Mapping[str, Sequence[Sequence[Point]]],
    *,
    variant: str = "",
    stage: str = "branch",
    tokens_per_step: int = 100,
    gate: float | None = None,
    gate_name: str = "target_bigram",
) -> ItemStore:
    """A store of trainings: for each size and seed its evaluations, each that of a branch (at marks 1, 2,
    ...), or all of one run (stage `train`). A size has 12 x depth x width squared parameters, and an update
    takes 6 operations for each parameter and token, by ELECTRA's count 4."""
    store = ItemStore(workdir)
    for size, seeds in trainings.items():
        depth, width = map(int, size.split("x"))
        parameters = 12 * depth * width**2
        for seed, points in enumerate(seeds):
            rows = []
            for step, seconds, value in points:
                about = {
                    "set": "held_out",
                    "step": step,
                    "training_seconds": seconds,
                    "parameters": parameters,
                }
                about |= {"tokens_per_step": tokens_per_step, "last": stage == "branch"}
                about |= {name: float(n * parameters * tokens_per_step * step) for name, n in _FLOPS.items()}
                rows.append({**about, "metric": "nats_per_byte", "value": value})
            rows[-1]["last"] = True
            if gate is not None:
                name = f"{gate_name}_nats_per_byte"
                rows.append({"set": "held_out", "metric": name, "value": gate, "step": 0, "last": False})
            marks = [str(number) for number in range(1, len(points) + 1)] if stage == "branch" else [""]
            for mark in marks:
                chosen = rows if mark == "" else [rows[int(mark) - 1], *rows[len(points) :]]
                fields = {"size": size, "variant": variant, "seed": seed, "mark": mark}
                store.seal(
                    Result(
                        item=f"{size},{variant}/seed{seed}/{stage}{mark}",
                        stage=stage,
                        fields={**fields, "metric_of_task": "nats_per_byte"},
                        rows=chosen,
                        made={"device": "2 cores of CPU"},
                    )
                )
    return store


_FLOPS = {"flops": 6, "electra_flops": 4}
