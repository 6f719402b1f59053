"""Codes of 4 bits, one range a row, whose rounding errors the later weights of a row make up for (GPTQ,
Frantar et al. 2023).

    python -m tlc_jax.compress RUN --config compensated --out DIR
    python -m tlc_jax.compress RUN --config compensated --bits 3 --out DIR

Cost: no training; a forward pass over 65,536 tokens of training data, and some seconds a matrix.
"""

from tlc_jax.compression.methods.quantize_compensated import QuantizeCompensated
from tlc_jax.config import CompressConfig


def get_config() -> CompressConfig:
    steps = (QuantizeCompensated(),)
    return CompressConfig(bits=4, granularity="row", range="mse", matrices_only=True, steps=steps)
