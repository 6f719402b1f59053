"""How well the ratio of two times of an update is known, which decide what equal time is.

Sizes are timed in turns with the first one, until the ratio is known to a few percent, and its interval is
stored. Older studies timed each size once, by itself: one such ratio was 3.2 where turns say 2.5."""

from __future__ import annotations

from tlc_jax.studies.item_store import ItemStore, Row
from tlc_jax.studies.measured import Measured

_ONCE = 1.3
"""What a ratio of two single timings may be off by."""


def with_timing_errors(rows: list[Row], store: ItemStore) -> list[Row]:
    """The rows, each with the timing that its updates were counted by (`timed_as`) and the factor that its
    ratio to the first one may be off by (`timing_error`): 1 where seconds are those of the clock."""
    timings: dict[tuple[str, str], dict[str, float]] = {}
    for row in store.rows(stage="timing"):
        timings.setdefault((row["size"], row["variant"]), {})[row["metric"]] = float(row["value"])
    in_turns = any("ratio" in timing for timing in timings.values())

    def about(row: Row) -> Row:
        keys = [key for key in ((row["size"], row["variant"]), (row["size"], "")) if key in timings]
        if not keys:
            return {"timed_as": "", "timing_error": 1.0}
        timing = timings[keys[0]]
        if "ratio" in timing:
            error = max(timing["ratio_high"] / timing["ratio"], timing["ratio"] / timing["ratio_low"])
        else:
            error = 1.0 if in_turns else _ONCE**0.5
        return {"timed_as": " ".join(keys[0]), "timing_error": error}

    return [row | about(row) for row in rows]


def apart(one: Measured, other: Measured) -> float:
    """The factor that the ratio of the times of two models may be off by; 1 for the same program."""
    first, second = one.rows[0], other.rows[0]
    if first["timed_as"] == second["timed_as"]:
        return 1.0
    return float(first["timing_error"] * second["timing_error"])
