"""The old name of `runs/load.py: load_model`, until all callers use the new one."""

from tlc_jax.runs.load import TrainedModel, Warn, load_model

__all__ = ["TrainedModel", "trained_model"]


def trained_model(root: str, warn: Warn) -> TrainedModel:
    return load_model(root, warn=warn)
