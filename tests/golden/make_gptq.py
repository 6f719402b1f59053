"""Make gptq.npz: what the core of qwix's GPTQ rounds one matrix to.

python -m tests.golden.make_gptq        in an environment with qwix 0.1.8 and jax 0.10
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

BITS = (4, 8)
DAMPENING = 0.01


def weights() -> np.ndarray:
    """A kernel [inputs, outputs]."""
    return np.random.default_rng(0).normal(size=(192, 24)).astype(np.float32)


def moment() -> np.ndarray:
    """The second moment of correlated inputs."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(800, 192)) @ (np.eye(192) + rng.normal(size=(192, 192)) / 8)
    return x.T @ x / len(x)


def main() -> None:
    import jax.numpy as jnp
    from qwix._src.core import qarray
    from qwix.contrib import gptq_core

    arrays = {}
    for bits in BITS:
        how = qarray.HowToQuantize(
            qtype=f"int{bits}", channelwise_axes=(0,), tiled_axes={}, calibration_method="absmax"
        )
        hessian = jnp.asarray(moment(), jnp.float32)
        result, _ = gptq_core.quantize_weight(jnp.asarray(weights().T), hessian, how, percdamp=DAMPENING)
        arrays[f"codes_{bits}"] = np.asarray(result.qvalue.astype(jnp.int8))
        arrays[f"scale_{bits}"] = np.asarray(result.scale, np.float32)
    np.savez_compressed(Path(__file__).parent / "gptq.npz", **arrays)


if __name__ == "__main__":
    main()
