"""How fast one core builds masked batches: row order, memory-mapped gather, dynamic masking.

    python benchmarks/input.py [--output benchmarks/results/input.json]

Rows are random ids in a file of 64 MB, read through the page cache; time is the process's CPU time, so
that other load on the machine does not count. Target: 10 M tokens a second per core.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from tlc_jax.core.vocabulary import roberta_roles
from tlc_jax.data.batches import rows_of_step
from tlc_jax.data.text.masking import mask

LENGTH, VOCAB, ROWS, ROUNDS = 128, 50265, 262_144, 9


def tokens_per_second(batch_size: int, rows: np.ndarray) -> float:
    """Median over rounds of tokens a CPU second, batches taken at steps of their own."""
    rates = []
    steps = max(1, 8192 // batch_size)
    for number in range(ROUNDS):
        began = time.process_time()
        for step in range(number * steps, (number + 1) * steps):
            places = rows_of_step(0, step, batch_size=batch_size, size=len(rows))
            mask(rows[places], key=(0, step), first_row=0, rate=0.15, roles=roberta_roles(VOCAB))
        rates.append(steps * batch_size * LENGTH / (time.process_time() - began))
    return statistics.median(rates)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/input.json"))
    output = parser.parse_args().output
    with tempfile.NamedTemporaryFile(suffix=".bin") as file:
        np.random.default_rng(0).integers(4, VOCAB - 1, (ROWS, LENGTH)).astype(np.uint16).tofile(file)
        file.flush()
        rows = np.memmap(file.name, np.uint16, mode="r", shape=(ROWS, LENGTH))
        rates = {str(size): round(tokens_per_second(size, rows) / 1e6, 1) for size in (32, 256, 8192)}
    result = {
        "what": "million tokens masked a CPU second, by batch size, rows of 128",
        "rates": rates,
        "date": datetime.date.today().isoformat(),
        "device": f"{platform.machine()}, one core",
        "numpy": np.__version__,
    }
    output.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
