"""How many rows of a batch fit on the devices: asked of the compiler, never found out by a crash."""

from __future__ import annotations

import math
from collections.abc import Callable

import jax

from tlc_jax.core.errors import UserError

GIB = 2**30


def device_limit() -> int | None:
    """Bytes that a program may use on a device; None where the device does not say (a CPU)."""
    return (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")


def largest_micro_batch(batch_size: int, devices: int, limit: int, peak: Callable[[int], float]) -> int:
    """The largest part of `batch_size` that splits over the devices and needs at most `limit` bytes on each.

    `peak(rows)` in bytes grows with its rows; it is asked for a few sizes only. UserError if none fits.
    """
    sizes = [rows for rows in range(devices, batch_size + 1, devices) if batch_size % rows == 0]
    needs: dict[int, float] = {}
    low, high = -1, len(sizes)  # sizes[low] fits, sizes[high] does not
    while high - low > 1:
        middle = (low + high) // 2
        needs[sizes[middle]] = peak(sizes[middle])
        low, high = (middle, high) if needs[sizes[middle]] <= limit else (low, middle)
    if low < 0:
        needed = needs[sizes[0]]
        amount = f"{needed / GIB:.3g} GiB" if needed < math.inf else "more than the device has"
        raise UserError(
            f"a micro-batch of {sizes[0]} needs {amount} on each device, which has {limit / GIB:.3g} GiB: "
            "take a smaller model, a shorter data.sequence_length or more memory"
        )
    return sizes[low]


def peak_or_infinite(peak: Callable[[], int]) -> float:
    """`peak()`; infinity where the compiler itself says that the program does not fit."""
    try:
        return peak()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return math.inf
