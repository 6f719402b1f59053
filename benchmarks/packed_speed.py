"""Seconds of a batch of an evaluation and of translation with packed weights, beside the same with floats.

    python benchmarks/packed_speed.py --output packed_speed.json [--rounds 7]

The models of `memory_at_use.py`, 4 bits with a range for each 64 weights and the same values in float32, side
by side: each round runs each of them once, and medians are compared.

Cost: 8 minutes on 2 idle CPU cores, 3 GB of memory.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
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
    """Seconds of each round in both forms, the ratio of their medians and, of an encoder, differences of
    logits."""
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
    result: dict[str, Any] = {"seconds": seconds, "ratio": ratio}
    if compute is evaluation:
        result["difference"] = differences(config, *forms.values())
    return result


def differences(config: Config, packed: Any, floats: Any) -> dict[str, float]:
    """Largest differences of logits over the largest logit: of packed weights from the same as floats, in
    float32 and in bfloat16; of bfloat16 from float32, of the floats; and of both, in float32, from float64,
    which all but GELU is computed in: float32 is not exact, whichever way it adds."""
    single, half = (
        {name: logits(config, dtype, params) for name, params in (("packed", packed), ("floats", floats))}
        for dtype in ("float32", "bfloat16")
    )
    with jax.enable_x64(True):
        exact = logits(
            config, "float64", jax.tree.map(lambda x: jnp.asarray(np.asarray(x, np.float64)), floats)
        )
    pairs = {
        "float32": (single["packed"], single["floats"]),
        "bfloat16": (half["packed"], half["floats"]),
        "bfloat16 from float32": (half["floats"], single["floats"]),
        "packed from float64": (single["packed"], exact),
        "float32 from float64": (single["floats"], exact),
    }
    return {name: float(np.abs(a - b).max() / np.abs(b).max()) for name, (a, b) in pairs.items()}


def logits(config: Config, dtype: Any, params: Any) -> np.ndarray:
    """Of a batch of random tokens."""
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, compute_dtype=dtype))
    objective, rng = kind_of(config).objective(config), np.random.default_rng(0)
    batch = {
        name: jnp.asarray(rng.integers(1, 100, x.shape), x.dtype)
        if jnp.issubdtype(x.dtype, jnp.integer)
        else jnp.ones(x.shape, x.dtype)
        for name, x in objective.largest_batch().items()
    }
    return np.asarray(jax.jit(lambda params: objective.logits(params, batch, None))(params), np.float64)


if __name__ == "__main__":
    main()
