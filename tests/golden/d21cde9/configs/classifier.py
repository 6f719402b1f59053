"""The encoder, finetuned on `tables`."""

from tlc_jax.config import (
    BudgetConfig,
    CheckpointConfig,
    ClassificationConfig,
    Config,
    DataConfig,
    EvaluationConfig,
    OptimizerConfig,
)


def get_config() -> Config:
    return Config(
        task=ClassificationConfig(head_dropout=0.1),
        data=DataConfig(dir="tables", sequence_length=32, held_out=0.2, cache_dir="cache"),
        optimizer=OptimizerConfig(learning_rate=3e-3),
        budget=BudgetConfig(steps=160),
        evaluation=EvaluationConfig(every_steps=None),
        checkpoint=CheckpointConfig(every_steps=150),
        batch_size=16,
        log_every=10,
    )
