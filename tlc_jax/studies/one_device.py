"""Trainings whose seconds can be compared: those of one device."""

from __future__ import annotations

from tlc_jax.studies.item_store import ItemStore, Row
from tlc_jax.studies.items import timed_variant
from tlc_jax.studies.measured import primary

_TRAINED = ("train", "branch")


def of_one_device(rows: list[Row], store: ItemStore) -> list[Row]:
    """The rows whose seconds are those of the device that most rows have; `left_out` names the others. It is
    the device that timed an update where updates are counted, else the one that trained."""
    timed_on: dict[object, str] = {}
    for row in store.rows(stage="timing"):
        timed_on[row["item"]] = row["device"]
        timed_on.setdefault((row["size"], row["variant"]), row["device"])  # rows of older stores name none
    timings = [row.get("timing") or (row["size"], timed_variant(row["variant"])) for row in rows]
    clocks = [str(timed_on.get(timing, row["device"])) for timing, row in zip(timings, rows, strict=True)]
    first = max(dict.fromkeys(clocks), key=clocks.count, default="")
    others = ", ".join(dict.fromkeys(clock for clock in clocks if clock != first))
    return [{**row, "left_out": others} for row, clock in zip(rows, clocks, strict=True) if clock == first]


def compressed_of_one_device(rows: list[Row], store: ItemStore) -> list[Row]:
    """The compressed models whose trainings are of the device that most trainings have."""
    trained = [row for row in store.rows(last=True) if primary(row) and row["stage"] in _TRAINED]
    others = {_training(row) for row in trained} - {_training(row) for row in of_one_device(trained, store)}
    return [row for row in rows if _training(row) not in others]


def _training(row: Row) -> tuple[object, ...]:
    return row["size"], row["variant"], row["seed"], row.get("mark")
