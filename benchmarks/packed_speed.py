"""Seconds of a batch of an evaluation and of translation with packed weights, beside the same with floats.

    python benchmarks/packed_speed.py --output packed_speed.json [--rounds 7]

The models of `memory_at_use.py`, 4 bits with a range for each 64 weights and the same values in float32, side
by side: each round runs each of them once, and medians are compared. Logits: packed_logits.py.

Cost: 8 minutes on 2 idle CPU cores, 3 GB of memory.
"""

from __future__ import annotations

import argparse
import functools
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import random_artifacts as made
from about import about

from tlc_jax.config import Config
from tlc_jax.runs.load import load_model
from tlc_jax.tasks.decoder import search
from tlc_jax.tasks.kinds import kind_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    result: dict[str, Any] = {**about(), "device": jax.devices()[0].device_kind}
    result["evaluate"] = compared(made.encoder(12, 768), evaluation, args.rounds)
    for name, beams in (("translate --beams 1", 1), ("translate", 4)):
        compute = functools.partial(translation, beams)
        result[name] = compared(made.translation(8, 640), compute, args.rounds)
    args.output.write_text(json.dumps(result, indent=1) + "\n")
    for name in ("evaluate", "translate --beams 1", "translate"):
        print(f"{name}: packed / float32 = {result[name]['ratio']:.2f}")


def evaluation(config: Config, params: Any) -> Any:
    objective = kind_of(config).objective(config)
    batch = {name: jnp.ones(x.shape, x.dtype) for name, x in objective.largest_batch().items()}
    return objective.loss(params, batch, None)[1]


def translation(beams: int, config: Config, params: Any) -> Any:
    source = jnp.full((made.ROWS, 24), 9, jnp.int32)
    limits = jnp.full(made.ROWS, 32)
    return search(config.model, params, source, limits, beams=beams, alpha=0.6, best=1)  # type: ignore[arg-type]


def compared(config: Config, compute: Any, rounds: int) -> dict[str, Any]:
    """Seconds of each round in both forms, and the ratio of their medians."""
    program = jax.jit(functools.partial(compute, config))
    with tempfile.TemporaryDirectory() as folder:
        made.write(Path(folder) / "artifact", config, 4)
        forms = {
            name: load_model(f"{folder}/artifact", packed=name == "packed").params
            for name in ("packed", "float32")
        }
    seconds: dict[str, list[float]] = {name: [] for name in forms}
    for number in range(rounds + 1):
        for name, params in forms.items():
            began = time.perf_counter()
            jax.block_until_ready(program(params))
            if number:  # the first compiles
                seconds[name].append(time.perf_counter() - began)
    ratio = statistics.median(seconds["packed"]) / statistics.median(seconds["float32"])
    return {"seconds": seconds, "ratio": ratio}


if __name__ == "__main__":
    main()
