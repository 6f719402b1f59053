"""Movement pruning (Sanh et al. 2020): a tenth of the weights stays, those that move away from zero while the
model is finetuned; then quantization to 8 bits.

    python -m tlc_jax.compress RUN --config prune_movement --workdir W --out DIR

RUN is a finetuned model, or one that is not finetuned long: the more its weights move, the more scores know.
It is trained for six epochs, along whose updates the sparsity rises, and learns its own predictions from
before, too. Soft movement, whose sparsity follows from a penalty:

    python -m tlc_jax.compress RUN --config prune_movement --sparsity 0 --recovery.movement.soft \
      --recovery.movement.penalty 100 --workdir W --out DIR

Cost: six epochs. Beside weights and Adam's two moments, scores (soft movement: three times as much) are kept.
"""

from tlc_jax.config.compression import CompressConfig, RecoveryConfig
from tlc_jax.config.compression_aware import MovementConfig


def get_config() -> CompressConfig:
    return CompressConfig(
        bits=8,
        sparsity=0.9,
        granularity="row",
        matrices_only=True,
        recovery=RecoveryConfig(movement=MovementConfig(), max_epochs=6.0, distil_weight=0.5),
    )
