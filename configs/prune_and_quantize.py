"""The paper's whole compression (4.3): pruned in rounds with recovery to 45 %, then quantized to 6 bits; one
range is for 64 neighbours, where the paper has one for a matrix.

    python -m tlc_jax.compress RUN --config prune_and_quantize --workdir W --out DIR

RUN is a finetuned classification. Each round ends when 99.5 % of its metric is back, or after an epoch, and
keeps its best evaluation; other numbers of bits of any round need no training: python -m tlc_jax.compress
W/pruned-30@best --bits 4 --granularity group:64 --range mse --matrices-only --out D.

Cost: up to three epochs of finetuning; with --recovery.control, which trains the dense model as long, six.
"""

from tlc_jax.config.compression import CompressConfig, RecoveryConfig


def get_config() -> CompressConfig:
    return CompressConfig(
        bits=6,
        sparsity=0.45,
        granularity="group:64",
        range="mse",
        matrices_only=True,
        recovery=RecoveryConfig(),
    )
