"""A small encoder-decoder, trained on `pairs` with Tensor2Tensor's schedule: two micro-batches an update."""

from tlc_jax.config import (
    BudgetConfig,
    CheckpointConfig,
    Config,
    EncoderDecoderConfig,
    EvaluationConfig,
    OptimizerConfig,
    PairsConfig,
    ScheduleConfig,
    TranslationConfig,
)


def get_config() -> Config:
    return Config(
        model=EncoderDecoderConfig(
            num_layers=2, hidden_size=16, head_size=8, feed_forward_size=32, vocab_size=288
        ),
        task=TranslationConfig(row_multiple=16),
        data=PairsConfig(
            dir="pairs",
            train="train.tsv",
            validation="validation.tsv",
            test="test.tsv",
            sequence_length=40,
            max_shapes=2,
            cache_dir="cache",
        ),
        optimizer=OptimizerConfig(learning_rate=1.0, beta2=0.997, epsilon=1e-9, weight_decay=0.0),
        schedule=ScheduleConfig(warmup=0.0, noam_steps=100),
        budget=BudgetConfig(steps=810),
        evaluation=EvaluationConfig(every_steps=None),
        checkpoint=CheckpointConfig(every_steps=800),
        batch_size=640,
        micro_batch=320,
        log_every=50,
    )
