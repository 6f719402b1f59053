"""Three layers at equal distances out of a deeper model, in float32: what a smaller model may begin with.

    python -m tlc_jax.compress RUN --config three_layers --out DIR
    python -m tlc_jax.compress RUN --config three_layers --steps.0.which first --out DIR

Nothing makes up for the layers that are gone: begin a run with the result (`train --init-from DIR`).
"""

from tlc_jax.compression.methods.keep_layers import KeepLayers
from tlc_jax.config import CompressConfig


def get_config() -> CompressConfig:
    return CompressConfig(bits=32, steps=(KeepLayers(3),))
