"""Options of a recipe, under the name that users' config documents import."""

from tlc_jax.config.compression import CompressConfig, RecoveryConfig

__all__ = ["CompressConfig", "RecoveryConfig"]
