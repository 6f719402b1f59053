"""Quickstart: a small pre-norm encoder on the documentation installed with Python, no download.

    python -m tlc_jax.train --config quickstart --workdir runs/quickstart

Cost: about 3 minutes on 2 CPU cores. The first minute collects about 9 MB of English (docstrings of numpy,
scipy, jax, flax, optax, orbax and the standard library), trains a byte-level BPE and packs the tokens; the
next run finds them in the cache. The result depends on how many updates fit into the time: on a busy machine
889 updates reached a held-out perplexity of 315, far above the 19 of the two-sided bigram. An idle machine
does three times as many; that has not been measured.
"""

from tlc_jax.config import (
    BudgetConfig,
    CheckpointConfig,
    Config,
    DataConfig,
    EvaluationConfig,
    ModelConfig,
    OptimizerConfig,
    ScheduleConfig,
)


def get_config() -> Config:
    return Config(
        model=ModelConfig(
            num_layers=2,
            hidden_size=128,
            vocab_size=4096,
            max_positions=64,
            dropout=0.0,
            attention_dropout=0.0,
            initializer_scaling="width",
        ),
        data=DataConfig(name="docs", sequence_length=64, held_out=0.02),
        optimizer=OptimizerConfig(learning_rate=3e-3),
        schedule=ScheduleConfig(follows="training_seconds", local_attention_tokens=1_000_000),
        budget=BudgetConfig(training_seconds=120),
        evaluation=EvaluationConfig(every_steps=None, per_run=10),
        checkpoint=CheckpointConfig(every_steps=500),
        batch_size=16,
        log_every=50,
    )
