"""A tiny run that tests share, and how two runs are compared."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from tlc_jax import train as train
from tlc_jax.core import tree
from tlc_jax.core.place import Place
from tlc_jax.core.rundir import RunDir
from tlc_jax.models.encoder import init_mlm
from tlc_jax.training.checkpoint import restore_params
from tlc_jax.training.metrics import read_metrics

CONFIG = """
from tlc_jax.config import *

def get_config():
    return Config(
        model=ModelConfig(num_layers=2, hidden_size=32, head_size=8, vocab_size=300, max_positions=32),
        data=DataConfig(sequence_length=32, held_out=0.1),
        optimizer=OptimizerConfig(learning_rate=1e-2),
        budget=BudgetConfig(steps=12),
        evaluation=EvaluationConfig(every_steps=6),
        checkpoint=CheckpointConfig(every_steps=5),
        batch_size=16,
        micro_batch=8,
        log_every=4,
    )
"""
TIMES = {"training_seconds", "total_seconds"}


def lines(workdir: Place) -> list[dict]:
    return [
        {key: value for key, value in line.items() if key not in TIMES}
        for line in read_metrics(RunDir(workdir).metrics)
    ]


def parameters(workdir: Place) -> dict[str, np.ndarray]:
    config = RunDir(workdir).read_config()
    like = jax.jit(lambda key: init_mlm(config.model, key))(jax.random.key(9))
    params, _ = restore_params(RunDir(workdir).checkpoints, like, pytest.fail)
    return {path: np.asarray(value) for path, value in tree.flatten(params).items()}


def nested(flat: dict[str, np.ndarray]) -> dict:
    """The tree that `parameters` took apart."""
    found: dict = {}
    for path, value in flat.items():
        node = found
        *outer, last = path.split("/")
        for key in outer:
            node = node.setdefault(key, {})
        node[last] = value
    return found


def assert_equal_runs(one: Place, other: Place) -> None:
    assert lines(one) == lines(other)
    ours, theirs = parameters(one), parameters(other)
    for path, value in ours.items():
        np.testing.assert_array_equal(value, theirs[path], err_msg=path)
