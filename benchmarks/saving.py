"""How long a save keeps training from going on, with our copy of the state and with Orbax alone.

    python benchmarks/saving.py --output benchmarks/results/saving.json [--saves 5]

100 M parameters and two moments of each, float32. `save` returns while files are still written; the update
after it takes over the state's memory, as a train step does, so it must wait where that is still being read.
Blocked seconds: until `save` returns, and by how much that update takes longer than one without a save before
it. A train step is stood in for by an addition to every number: what it computes does not matter.

Cost: about 3 minutes, 8 GB of memory and 4 GB of disk.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from about import about

from tlc_jax.runs.saving import Checkpoints
from tlc_jax.training.state import TrainState

LAYERS, SIZE = 10, 10_000_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--saves", type=int, default=5)
    args = parser.parse_args()
    result: dict[str, Any] = {
        **about(),
        "device": jax.devices()[0].device_kind,
        "parameters": LAYERS * SIZE,
        "state_bytes": 3 * 4 * LAYERS * SIZE,
        "copied": measure(args.saves, copied=True),
        "orbax_alone": measure(args.saves, copied=False),
    }
    args.output.write_text(json.dumps(result, indent=1) + "\n")
    for name in ("copied", "orbax_alone"):
        print(f"{name}: blocked {result[name]['median_blocked_seconds']:.3f} s (median of {args.saves})")


def measure(saves: int, copied: bool) -> dict[str, Any]:
    def numbers(key: int) -> dict[str, jax.Array]:
        keys = jax.random.split(jax.random.key(key), LAYERS)
        return {f"layer{i}": jax.random.normal(keys[i], (SIZE,)) for i in range(LAYERS)}

    state = TrainState(jnp.int32(0), numbers(0), {"mean": numbers(1), "square": numbers(2)})
    update = jax.jit(lambda state: jax.tree.map(lambda x: x + 1, state), donate_argnums=0)
    lines = []
    with tempfile.TemporaryDirectory() as folder, Checkpoints(Path(folder), keep=2) as checkpoints:
        if copied:
            checkpoints.reserve(state)
        else:
            checkpoints._snapshot.take = lambda state: state  # type: ignore[method-assign]
        for number in range(saves + 1):
            plain = []
            for _ in range(5):
                seconds, state = timed(lambda state=state: jax.block_until_ready(update(state)))
                plain.append(seconds)
            returned, _ = timed(lambda n=number, state=state: checkpoints.save(n, state, {}))
            after, state = timed(lambda state=state: jax.block_until_ready(update(state)))
            written, _ = timed(checkpoints.wait)
            usual = statistics.median(plain)
            lines.append(
                {
                    "save_returned_seconds": returned,
                    "update_seconds": usual,
                    "update_after_save_seconds": after,
                    "blocked_seconds": returned + after - usual,
                    "whole_on_disk_after_seconds": returned + after + written,
                }
            )
    lines = lines[1:]  # the first touches memory of Orbax for the first time
    return {
        "median_blocked_seconds": statistics.median(line["blocked_seconds"] for line in lines),
        "saves": lines,
    }


def timed(work: Any) -> tuple[float, Any]:
    started = time.perf_counter()
    result = work()
    return time.perf_counter() - started, result


if __name__ == "__main__":
    main()
