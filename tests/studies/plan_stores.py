"""Pilots that are made by hand: stores whose losses and rises by compression follow known laws."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np

from tlc_jax.config import StudyConfig
from tlc_jax.core.config_document import load_config
from tlc_jax.runs.step_time import timed
from tlc_jax.storage.run_directory import STUDY
from tlc_jax.studies.item_store import ItemStore, Result, Row
from tlc_jax.studies.pilot_study import pilot_study

PARAMETERS = {"1x32": 62_208, "2x64": 297_728, "2x128": 1_054_208, "3x192": 3_304_512}
SECONDS = {"1x32": 0.01, "2x64": 0.03, "2x128": 0.1, "3x192": 0.3}
"""Of an update."""
TOKENS = 1000  # of an update
PILOT = 600.0  # seconds of the longest branch of each size
BITS = (32, 8, 4, 2)
MARKS = {"1/8": 1 / 8, "1/4": 1 / 4, "1/2": 1 / 2, "1": 1.0}
GATE = 1.6


def loss(size: str, tokens: float) -> float:
    return float(0.3 + 40 / PARAMETERS[size] ** 0.35 + 150 / tokens**0.4)


def rise(bits: int, size: str, tokens: float) -> float:
    """The loss of a quantized model over that of the dense one."""
    if bits == 32:
        return 1.0
    return float(1 + 30 * np.exp(-1.3 * bits) * (tokens / PARAMETERS[size] / 10) ** 0.6)


def tokens_in(size: str, seconds: float) -> float:
    return round(seconds / SECONDS[size]) * TOKENS


def study(sizes: tuple[str, ...]) -> StudyConfig:
    config = load_config("quickstart_study", StudyConfig)
    config = dataclasses.replace(config, sizes=tuple(PARAMETERS), bits=BITS)
    return dataclasses.replace(pilot_study(config, 10.0), sizes=sizes)


def pilot(
    folder: Path,
    sizes: tuple[str, ...] = tuple(PARAMETERS),
    *,
    noise: float = 0.002,
    marks: tuple[str, ...] = tuple(MARKS),
    gate: float = GATE,
    metric: str = "nats_per_byte",
    seconds: float = PILOT,
) -> Path:
    """A store of one seed, with its study.json."""
    folder.mkdir(parents=True)
    (folder / STUDY).write_text(json.dumps(dataclasses.asdict(study(sizes))))
    store, rng = ItemStore(folder), np.random.default_rng(0)
    for size in sizes:
        for mark in marks:
            tokens = tokens_in(size, MARKS[mark] * seconds)
            value = loss(size, tokens) * float(np.exp(noise * rng.standard_normal()))
            _seal_branch(store, size, mark, tokens, value, gate, metric)
            for bits in BITS if mark in ("1/4", "1") else ():
                _seal_compressed(store, size, mark, tokens, value, bits, metric)
    return folder


def _fields(size: str, mark: str, metric: str) -> dict[str, Any]:
    about = {"size": size, "variant": "", "seed": 0, "mark": mark, "metric_of_task": metric}
    return {**about, "higher_is_better": metric == "accuracy"}


def _seal_branch(
    store: ItemStore, size: str, mark: str, tokens: float, value: float, gate: float, metric: str
) -> None:
    about: Row = {"parameters": PARAMETERS[size], "tokens_per_step": float(TOKENS), "set": "held_out"}
    about |= {"epoch": tokens / 1e7, "training_seconds": tokens / TOKENS * SECONDS[size]}
    rows: list[Row] = [
        {**about, "step": 0, "metric": f"target_bigram_{metric}", "value": gate, "last": False},
        {**about, "step": round(tokens / TOKENS), "metric": metric, "value": value, "last": True},
    ]
    name = f"{size}/seed0/at-{mark.replace('/', '-')}"
    fields = _fields(size, mark, metric)
    store.seal(Result(item=name, stage="branch", fields=fields, rows=rows, made={"device": "a CPU"}))


def _seal_compressed(
    store: ItemStore, size: str, mark: str, tokens: float, value: float, bits: int, metric: str
) -> None:
    weights = PARAMETERS[size]
    row: Row = {"set": "held_out", "role": "both", "metric": metric, "step": round(tokens / TOKENS)}
    row |= {"value": value * rise(bits, size, tokens), "parameters": weights, "nonzeros": weights}
    row |= {"paper_bytes": weights * bits / 8, "file_bytes": file_bytes(size, bits)}
    name = f"{size}/seed0/at-{mark.replace('/', '-')}/{bits}bits-0pruned"
    fields = {**_fields(size, mark, metric), "bits": bits, "sparsity": 0.0, "recovered": False}
    store.seal(Result(item=name, stage="compress", fields=fields, rows=[row], made={"device": "a CPU"}))


def file_bytes(size: str, bits: int) -> int:
    return round(PARAMETERS[size] * (bits / 8 + 0.1))


def timing_files(folder: Path, sizes: tuple[str, ...] = tuple(PARAMETERS)) -> list[str]:
    """What `bench step-time` writes for each size on another device."""
    folder.mkdir(parents=True)
    paths = []
    for size in sizes:
        config = study(tuple(PARAMETERS)).train_of(size)
        content = {**timed(config), "mean_seconds": SECONDS[size], "devices": "1 x another device"}
        (folder / f"{size}.json").write_text(json.dumps(content))
        paths.append(str(folder / f"{size}.json"))
    return paths
