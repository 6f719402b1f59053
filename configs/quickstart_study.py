"""The paper in miniature: two sizes, equal time, finetuned and compressed; which is best for which memory?

    python -m tlc_jax.study --config quickstart_study --workdir runs/study

Pretrains 2x64 and 2x128 for 45 seconds each on the documentation installed with Python and its packages,
finetunes both to tell numpy's sentences from scipy's, quantizes each to 8, 6, 4 and 3 bits at 0, 30, 60 and
90 % sparsity, and draws the paper's two plots. No download. On your own text, with SST-2: `study_sst2`.

Cost: 3 min 25 s from a cold start on 2 CPU cores; longer, with fewer updates in the same time, beside other
jobs. Perplexity ended at 82 (2x64) and 64 (2x128), both far above the 14 of the two-sided bigram, and bag of
words is ahead of both after finetuning: the study says so."""

from tlc_jax.config import (
    BudgetConfig,
    CheckpointConfig,
    ClassificationConfig,
    Config,
    DataConfig,
    EvaluationConfig,
    ModelConfig,
    OptimizerConfig,
    ScheduleConfig,
)
from tlc_jax.config.study_options import StudyConfig


def get_config() -> StudyConfig:
    train = Config(
        model=ModelConfig(
            vocab_size=2048,
            max_positions=64,
            dropout=0.0,
            attention_dropout=0.0,
            initializer_scaling="width",
        ),
        data=DataConfig(name="docs", sequence_length=64, held_out=0.02),
        optimizer=OptimizerConfig(learning_rate=3e-3),
        schedule=ScheduleConfig(follows="training_seconds", warmup=0.06, local_attention=0.9),
        budget=BudgetConfig(training_seconds=45),
        evaluation=EvaluationConfig(every_steps=400),
        checkpoint=CheckpointConfig(every_steps=1000),
        batch_size=16,
        log_every=100,
    )
    finetune = Config(
        task=ClassificationConfig(dropout=0.0),
        data=DataConfig(name="docs/package", sequence_length=32, held_out=0.05),
        optimizer=OptimizerConfig(learning_rate=1e-3, weight_decay=0.1),
        schedule=ScheduleConfig(follows="steps", warmup=0.06),
        budget=BudgetConfig(steps=250),
        evaluation=EvaluationConfig(every_steps=None),
        checkpoint=CheckpointConfig(every_steps=1000),
        batch_size=32,
        log_every=100,
    )
    return StudyConfig(train=train, finetune=finetune, sizes=("2x64", "2x128"))
