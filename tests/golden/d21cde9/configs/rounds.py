"""The classifier, pruned to 30 % and finetuned for an epoch, whatever its accuracy."""

from tlc_jax.recipes.config import CompressConfig, RecoveryConfig


def get_config() -> CompressConfig:
    return CompressConfig(
        bits=6,
        sparsity=0.3,
        granularity="row",
        matrices_only=True,
        recovery=RecoveryConfig(levels=(0.3,), target=10.0),
    )
