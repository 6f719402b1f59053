"""How many rows of a batch fit on the devices: asked of the compiler, never found out by a crash."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import jax

from tlc_jax.config import Config, TranslationConfig
from tlc_jax.core.errors import UserError

GIB = 2**30


def device_limit() -> int | None:
    """Bytes that a program may use on a device; None where the device does not say (a CPU)."""
    return (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")


def micro_batch_sizes(config: Config, devices: int) -> list[int]:
    """Every `micro_batch` of a config whose rows split over the devices, the smallest first."""
    whole, task = config.batch_size, config.task
    if isinstance(task, TranslationConfig):  # tokens; the rows are a multiple of row_multiple / micro-batches
        parts = [n for n in range(1, task.row_multiple + 1) if task.row_multiple % (n * devices) == 0]
        return [whole // n for n in reversed(parts) if whole % n == 0]
    return [rows for rows in range(devices, whole + 1, devices) if whole % rows == 0]


def largest_micro_batch(sizes: Sequence[int], limit: int, peak: Callable[[int], float]) -> int:
    """The largest of the ascending `sizes` that needs at most `limit` bytes on each device.

    `peak(size)` in bytes grows with the size; it is asked for a few of them only. UserError if none fits.
    """
    if not sizes:
        raise UserError(
            "no micro-batch splits over the devices: take a batch_size that is a multiple of them"
        )
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
