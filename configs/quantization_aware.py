"""Finetuning with rounded weights (quantization-aware, straight through), then quantization to 3 bits.

    python -m tlc_jax.compress RUN --config quantization_aware --workdir W --out DIR

RUN is a trained model. It is trained further for an epoch at most, while each forward pass computes with the
weights as the artifact has them, and the best evaluation is kept. With --sparsity 0.45 it is pruned in rounds
meanwhile. The model to compare with has had as many updates: add --recovery.control.

Cost: an epoch; each update also looks for all ranges.
"""

from tlc_jax.config.compression import CompressConfig, RecoveryConfig


def get_config() -> CompressConfig:
    return CompressConfig(
        bits=3,
        granularity="group:64",
        matrices_only=True,
        recovery=RecoveryConfig(quantization_aware=True),
    )
