"""The evaluations of trainings with the share of its peak that their learning rate had, and what can be
compared of them: values at the same share of a schedule only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from tlc_jax.studies.exhibits import equal_time
from tlc_jax.studies.item_store import ItemStore, Row
from tlc_jax.studies.measured import share, size_order, tuning_rows
from tlc_jax.studies.training_curve import AXES

NEAR = 1.02
"""Costs that differ by a smaller factor are the same: a run ends after a whole number of updates."""


def rated_evaluations(store: ItemStore, wanted: Callable[[Row], bool], fewest: int = 1) -> list[Row]:
    """The evaluations that are wanted of the trainings that have so many to compare. Trunks whose last branch
    is not finished yet are left out, with their branches."""
    rows = all_evaluations(store, wanted)
    last_mark = max((share(row["mark"]) for row in rows if row["rate"] == "finished"), default=1.0)
    ended = {_training(row) for row in rows if row["rate"] == "finished" and share(row["mark"]) == last_mark}
    rows = [row for row in rows if row["rate"] == "falling" or _training(row) in ended]
    compared = Counter(_training(row) for row in rows if row["rate"] != "stable")
    return [row for row in rows if compared[_training(row)] >= fewest]


def all_evaluations(store: ItemStore, wanted: Callable[[Row], bool] = lambda row: True) -> list[Row]:
    """The evaluations that are wanted of all trainings on one device, in the order of their parameters.
    `rate` says at which learning rate: stable (trunks), finished (branches of them) or falling (other runs);
    `tokens` are those of all updates."""
    rows = tuning_rows(
        store, lambda row: row["stage"] in ("train", "branch") and row["step"] > 0 and wanted(row)
    )
    trunks = {_training(row) for row in rows if row["stage"] == "branch"}
    for row in rows:
        whole = "stable" if _training(row) in trunks else "falling"
        row["rate"] = "finished" if row["stage"] == "branch" else whole
        row["tokens"] = row["step"] * row.get("tokens_per_step", 0)
    rows = [row for row in rows if row["stage"] == "train" or row["last"]]
    return sorted(equal_time.of_one_device(rows, store), key=_order)


def _training(row: Row) -> tuple[str, str, int]:
    return row["size"], row["variant"], row["seed"]


def _order(row: Row) -> tuple[float, tuple[int, int], float]:
    return float(row.get("parameters", 0)), size_order(row["size"]), float(row["training_seconds"])


def axes_of(rows: list[Row]) -> list[str]:
    """The costs that all rows have."""
    return [axis for axis in AXES if all(row.get(axis, 0) > 0 for row in rows)]


def compared_axes(rows: list[Row]) -> list[str]:
    """The costs over which values were evaluated at the same share of the schedule: those of finished
    branches over all, those of other runs where all runs end at the same point."""

    def end_together(axis: str) -> bool:
        ends = [row[axis] for row in rows if row["rate"] == "falling" and row["last"]]
        return not ends or max(ends) < NEAR * min(ends)

    return [axis for axis in axes_of(rows) if end_together(axis)]
