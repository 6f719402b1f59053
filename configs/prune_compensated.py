"""Half of the weights of each matrix become zero, the others codes of 4 bits, and other weights make up for
both (SparseGPT, Frantar and Alistarh 2023).

    python -m tlc_jax.compress RUN --config prune_compensated --out DIR
    python -m tlc_jax.compress RUN --config prune_compensated --steps.0.pattern 2:4 --out DIR

Cost: no training; a forward pass over 65,536 tokens of training data, and some seconds a matrix.
"""

from tlc_jax.compression.methods.prune_compensated import PruneCompensated
from tlc_jax.compression.methods.quantize_compensated import QuantizeCompensated
from tlc_jax.config import CompressConfig


def get_config() -> CompressConfig:
    steps = (PruneCompensated(0.5), QuantizeCompensated())
    return CompressConfig(bits=4, granularity="row", range="mse", matrices_only=True, steps=steps)
