"""Every matrix as the product of two factors with half of its parameters in 8-bit codes: 4 bits a weight.

    python -m tlc_jax.compress RUN --config low_rank --out DIR
    python -m tlc_jax.compress --hf FOLDER --config low_rank --out DIR

The factors are those of the truncated singular value decomposition, the closest product of their rank. A
classification's head, vectors and matrices too small to become smaller stay whole. Weights of trained models
are not of low rank: expect a larger loss than from codes of 4 bits, which take about as many bytes. In a
model of 2 layers of 16 units the perplexity rose from 32.7 to 36.0, and with --bits 4 --granularity row
--range mse --matrices-only not at all.

Cost: no data and no training, but a decomposition in float64 of each matrix: 20 s for an embedding of 30,522
x 768, 10 s for 3,072 x 768, on 2 busy CPU cores.
"""

from tlc_jax.compression.methods.low_rank import LowRank
from tlc_jax.config import CompressConfig


def get_config() -> CompressConfig:
    return CompressConfig(bits=8, granularity="row", matrices_only=True, steps=(LowRank(share=0.5),))
