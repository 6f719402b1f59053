"""Starting a run from another one (--init-from): its model, its tokenizer, its newest parameters."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax

from tlc_jax.artifacts.artifact import is_artifact
from tlc_jax.config import Config, ModelConfig
from tlc_jax.core.errors import UserError
from tlc_jax.core.tree import Params
from tlc_jax.runs.checkpoint import whole_steps
from tlc_jax.runs.restore import trained_model
from tlc_jax.storage.run_directory import RunDir


def with_source(config: Config, document: Config, source: RunDir) -> Config:
    """`config` with the source run's model and tokenizer; overriding either is an error."""
    if config.model != document.model:
        raise UserError("--init-from takes the model from its run: give no --model.* with it")
    if config.data.tokenizer != document.data.tokenizer:
        raise UserError("--init-from takes the tokenizer from its run: give no --data.tokenizer with it")
    trained = is_artifact(source.root) or bool(whole_steps(source.checkpoints))
    if not source.config.is_file() or not trained:
        raise UserError(
            f"--init-from {source.root} is neither a run that has saved a checkpoint nor an artifact"
        )
    model = source.read_config().model
    data = dataclasses.replace(config.data, tokenizer=str(source.tokenizer))
    if isinstance(model, ModelConfig) and data.sequence_length > model.max_positions:
        raise UserError(
            f"data.sequence_length is {data.sequence_length} but the model of {source.root} has "
            f"{model.max_positions} positions: set --data.sequence-length {model.max_positions}"
        )
    try:
        return dataclasses.replace(config, model=model, data=data)
    except ValueError as error:
        raise UserError(f"--init-from {source.root} does not go with this config: {error}") from error


def source_params(source: RunDir, new: Params, warn: Callable[[str], None]) -> tuple[Params, int]:
    """`new` parameters with those of the source run where both have them, and the source's step.

    The encoder is taken; so is a head of the same kind and shape. A head of another task stays new.
    """
    model = trained_model(str(source.root), warn)
    shapes = {name: jax.tree.map(lambda x: x.shape, part) for name, part in new.items()}
    taken = {
        name: jax.tree.map(lambda x, like: jax.device_put(x, like.sharding), part, new[name])
        for name, part in model.params.items()
        if name in shapes and jax.tree.map(lambda x: x.shape, part) == shapes[name]
    }
    if "encoder" not in taken:
        raise UserError(f"the encoder of {source.root} does not have the shape that this run needs")
    return {**new, **taken}, model.step
