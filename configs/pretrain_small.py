"""A small model on your own text: 4 layers, width 256, vocabulary 8192, one hour on a laptop.

    python -m tlc_jax.train --config pretrain_small --workdir W --data.dir FOLDER

FOLDER holds .txt, .txt.gz or .txt.zst files (a blank line between documents) or .jsonl. The schedule
follows the training seconds, so `--budget.training-seconds 600` gives a finished model too.

Cost: 60 minutes of training on 2 CPU cores, about 10 M tokens. On Wikipedia the held-out perplexity ended
at 80, still above the 32 of the two-sided bigram (docs/results/pretrain_small.md).
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
            num_layers=4,
            hidden_size=256,
            vocab_size=8192,
            max_positions=64,
            dropout=0.0,  # a part of one epoch: nothing to regularise
            attention_dropout=0.0,
            initializer_scaling="width",
        ),
        data=DataConfig(name="files", sequence_length=64),
        optimizer=OptimizerConfig(learning_rate=1e-3),
        schedule=ScheduleConfig(follows="training_seconds", warmup=0.06, local_attention_tokens=3_000_000),
        budget=BudgetConfig(training_seconds=3600),
        evaluation=EvaluationConfig(every_steps=None, per_run=20),
        checkpoint=CheckpointConfig(every_steps=1000),
        batch_size=16,
        log_every=50,
    )
