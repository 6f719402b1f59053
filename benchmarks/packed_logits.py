"""How far logits of packed weights are from those of the same weights in float32, and both from float64.

    python benchmarks/packed_logits.py --output packed_logits.json

The encoder of `memory_at_use.py`, 12x768 with random weights, 4 bits with a range for each 64 weights; four
rows of random tokens. Cost: a minute of 2 CPU cores, 3 GB of memory.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import random_artifacts as made
from about import about

from tlc_jax.config import Config
from tlc_jax.runs.load import load_model
from tlc_jax.tasks.kinds import kind_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    config = made.encoder(12, 768)
    with tempfile.TemporaryDirectory() as folder:
        made.write(Path(folder) / "artifact", config, 4)
        packed, floats = (load_model(f"{folder}/artifact", packed=packed).params for packed in (True, False))
    result = {
        **about(),
        "device": jax.devices()[0].device_kind,
        "difference": differences(config, packed, floats),
    }
    args.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result["difference"]))


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
