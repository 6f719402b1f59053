"""A small encoder, pretrained on `text`: two micro-batches an update, dropout, two marks."""

from tlc_jax.config import (
    BudgetConfig,
    CheckpointConfig,
    Config,
    DataConfig,
    EvaluationConfig,
    ModelConfig,
    OptimizerConfig,
)


def get_config() -> Config:
    return Config(
        model=ModelConfig(
            num_layers=2,
            hidden_size=16,
            head_size=8,
            feed_forward_size=32,
            vocab_size=288,
            max_positions=32,
            initializer_scaling="width",
        ),
        data=DataConfig(dir="text", sequence_length=32, held_out=0.2, cache_dir="cache"),
        optimizer=OptimizerConfig(learning_rate=1e-2, decayed="matrices"),
        budget=BudgetConfig(steps=160),
        evaluation=EvaluationConfig(every_steps=50),
        checkpoint=CheckpointConfig(every_steps=None, marks="1/8,15/16"),
        batch_size=16,
        micro_batch=8,
        log_every=10,
    )
