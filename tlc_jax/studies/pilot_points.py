"""What the pilots of a plan have measured: losses of finished branches, rises by compression, bytes, and how
long trainings took. Pilots are studies, one or several, of one recipe on the same data."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from tlc_jax.config import CompressConfig
from tlc_jax.config.saved import differences, flat
from tlc_jax.config.study_options import StudyConfig
from tlc_jax.core.errors import UserError
from tlc_jax.core.invocation import command
from tlc_jax.storage.paths import AnyPath
from tlc_jax.studies.compression_rise import MeasuredRise, Recipe
from tlc_jax.studies.item_store import ItemStore, Row
from tlc_jax.studies.measured import metric_of, primary, size_order, tuning_rows
from tlc_jax.studies.scaling_law import Points
from tlc_jax.studies.study_record import read_config

_OF_EACH_PILOT = (
    *("seed", "log_every", "tensorboard", "micro_batch", "memory_gib", "max_skipped", "hung_after"),
    *("stop_after", "data.dir", "data.cache_dir", "model.num_layers", "model.hidden_size"),
)
_PARTS_OF_EACH_PILOT = ("budget.", "checkpoint.", "evaluation.", "mesh.", "schedule.")
"""Options of training in which pilots and the planned run may differ. The schedule follows the time."""
_DENSE = (32, 0.0)


@dataclass(frozen=True)
class Pilot:
    """Measurements of pilots, in the primary metric on the set that choices are made on.

    `points` are those of models that are better than their gate, and `above` says of each size whose longest
    training is not what it reached and its gate. `seconds` are those of the longest training of each size.
    """

    config: StudyConfig
    compression: CompressConfig | None
    """How the compressed models were made; None where none was."""
    points: Points
    parameters: dict[str, float]
    seconds: dict[str, float]
    above: dict[str, tuple[float, float, float]]
    rises: tuple[MeasuredRise, ...]
    bytes: dict[tuple[str, Recipe], tuple[float, float]]
    """The paper's and those of the file, of the compressed models that were measured."""
    metric: str
    set: str
    gate: float | None
    """What counts alone reach on that set."""
    tokens_per_step: float
    tokens_per_epoch: float | None


def read_pilot(workdirs: Sequence[AnyPath]) -> Pilot:
    """The measurements of studies. UserError where they are of different recipes, data or metrics, or lack
    what a plan needs."""
    config, compression, rows, compressed = None, None, list[Row](), list[Row]()
    data: dict[str, AnyPath] = {}
    branches = dict[str, AnyPath]()
    for workdir in workdirs:
        study = read_config(workdir)
        if study is None:
            raise UserError(f"--store {workdir} holds no study: give the folder of one with branches")
        if config is not None:
            check_recipe(study, config, f"--store {workdir}", f"--store {workdirs[0]}")
        config = config or study
        store = ItemStore(workdir)
        for result in store.results():
            same = f"{result['item']} {result['rows']}" if result["stage"] == "branch" else ""
            if same and (first := branches.setdefault(same, workdir)) is not workdir:
                raise UserError(
                    f"--store {first} and {workdir} both hold the same {result['item']}, which would count "
                    "twice: give one of them"
                )
            if trained_on := result.get("data", {}).get("train"):
                data.setdefault(trained_on["identity"], workdir)
        rows += [{**row, "store": str(workdir)} for row in tuning_rows(store, _finished)]
        if of_this := [{**row, "store": str(workdir)} for row in _compressed(store)]:
            check_compression(study.compression, compression, f"--store {workdir}")
            compression = study.compression
            compressed += of_this
    assert config is not None
    if len(data) > 1:
        first, second, *_ = data.values()
        raise UserError(f"--store {first} and {second} differ in their data: give stores of the same")
    _check_rows(rows, workdirs)
    return _pilot(config, compression, rows, compressed)


def check_recipe(one: StudyConfig, other: StudyConfig, name: str, other_name: str) -> None:
    """UserError where two studies train in different ways, so that one says nothing about the other."""
    new, old = ({**flat(each.train), "rate_scaling": each.rate_scaling} for each in (one, other))
    free = {
        option for option in new | old if option in _OF_EACH_PILOT or option.startswith(_PARTS_OF_EACH_PILOT)
    }
    if changed := differences(new, old, other_name, free):
        raise UserError(f"{name} trains otherwise than {other_name}: {changed}. Give pilots of one recipe")


def check_compression(one: CompressConfig, other: CompressConfig | None, name: str) -> None:
    """UserError where models were compressed otherwise than they would be, so that their rises are others."""
    if other is not None and (
        changed := differences(flat({"compression": one}), flat({"compression": other}), "a pilot")
    ):
        raise UserError(
            f"{name} compresses otherwise than the pilots: {changed}. Give pilots that were "
            "compressed in one way, or the same options of --compression"
        )


def _finished(row: Row) -> bool:
    """Whether a row is the end of a branch without a variant."""
    return (
        row["stage"] == "branch" and row.get("last") is True and not row["variant"] and not row.get("equal")
    )


def _compressed(store: ItemStore) -> list[Row]:
    """The primary metric of models that were compressed at once, on the set that choices are made on."""
    return [
        row
        for row in store.rows(stage="compress")
        if primary(row)
        and row.get("role") in ("tuning", "both")
        and not (row["variant"] or row.get("equal") or row.get("recovered") or row.get("combination"))
        and row.get("as_long_as") is None
    ]


def _check_rows(rows: list[Row], workdirs: Sequence[AnyPath]) -> None:
    stores = " ".join(map(str, workdirs))
    if not rows:
        raise UserError(
            f"--store {stores} has no finished branch: give a study of trunks (train.schedule.cooldown 0) "
            f"with train.checkpoint.marks, or let {command('plan')} train one with --pilot-minutes"
        )
    if metric_of(rows[0]).higher_is_better:
        raise UserError(
            f"--store {stores} is judged by its {rows[0]['metric']}, and the law is one of losses: give the "
            "study of a language model or a translation"
        )
    if any("tokens_per_step" not in row or "parameters" not in row for row in rows):
        raise UserError(
            f"--store {stores} was made by a version that did not record tokens: train a pilot with "
            "--pilot-minutes"
        )
    if len({(row["set"], row["metric"]) for row in rows}) > 1:
        raise UserError(f"--store {stores} have different metrics or sets: give studies that have the same")


def _pilot(
    config: StudyConfig, compression: CompressConfig | None, rows: list[Row], compressed: list[Row]
) -> Pilot:
    rows = sorted(rows, key=lambda row: (size_order(row["size"]), row["seed"], row["step"]))
    metric = metric_of(rows[0])
    trainings = {key: float(n) for n, key in enumerate(dict.fromkeys(map(_training, rows)))}
    passing = [row for row in rows if row.get("gate") is None or metric.better(row["value"], row["gate"])]
    points = [(row["parameters"], _tokens(row), row["value"], trainings[_training(row)]) for row in passing]
    longest = {row["size"]: row for row in sorted(rows, key=_tokens)}
    longest = {size: longest[size] for size in dict.fromkeys(row["size"] for row in rows)}
    epochs = [(_tokens(row), row["epoch"]) for row in rows if row.get("epoch")]
    return Pilot(
        config,
        compression,
        Points(*np.array(points, float).reshape(-1, 4).T),
        {size: float(row["parameters"]) for size, row in longest.items()},
        {size: float(row["training_seconds"]) for size, row in longest.items()},
        {
            size: (float(row["value"]), float(row["gate"]), float(row["training_seconds"]))
            for size, row in longest.items()
            if row not in passing
        },
        tuple(_rises(compressed, {_model(row): _tokens(row) for row in passing})),
        _bytes(compressed),
        metric.name,
        str(rows[0]["set"]),
        rows[0].get("gate"),
        float(np.mean([row["tokens_per_step"] for row in rows])),
        float(np.median([tokens / epoch for tokens, epoch in epochs])) if epochs else None,
    )


def _training(row: Row) -> tuple[object, ...]:
    return row["store"], row["size"], row["seed"]


def _model(row: Row) -> tuple[object, ...]:
    return (*_training(row), row["mark"])


def _tokens(row: Row) -> float:
    return float(row["step"]) * float(row["tokens_per_step"])


def _rises(rows: Iterable[Row], tokens: dict[tuple[object, ...], float]) -> list[MeasuredRise]:
    """Of models that are better than their gate before they are compressed."""
    values = {(_model(row), (int(row["bits"]), float(row["sparsity"]))): row for row in rows}
    return [
        MeasuredRise(
            recipe, float(row["parameters"]), tokens[model], row["value"] / values[model, _DENSE]["value"]
        )
        for (model, recipe), row in values.items()
        if recipe != _DENSE and model in tokens and (model, _DENSE) in values
    ]


def _bytes(rows: Iterable[Row]) -> dict[tuple[str, Recipe], tuple[float, float]]:
    sizes: dict[tuple[str, Recipe], list[tuple[float, float]]] = {}
    for row in rows:
        key = str(row["size"]), (int(row["bits"]), float(row["sparsity"]))
        sizes.setdefault(key, []).append((float(row["paper_bytes"]), float(row["file_bytes"])))
    means = {key: np.mean(each, axis=0) for key, each in sizes.items()}
    return {key: (float(paper), float(file)) for key, (paper, file) in means.items()}
