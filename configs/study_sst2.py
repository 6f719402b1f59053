"""Three sizes on your text and SST-2: 20 minutes of pretraining each, three seeds of finetuning.

    python -m tlc_jax.study --config study_sst2 --workdir W --train.data.dir TEXT --finetune.data.dir SST2

TEXT holds .txt, .txt.gz or .txt.zst files (a blank line between documents), .jsonl or .parquet; SST2 is what
`python -m tlc_jax.prepare glue/sst2 --out SST2` wrote. Leave the machine to it: sizes are compared at equal
training time.

Cost: one hour of pretraining; with finetuning and compression about 100 minutes on 2 CPU cores.
"""

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
from tlc_jax.config.study_options import SearchConfig, StudyConfig


def get_config() -> StudyConfig:
    train = Config(
        model=ModelConfig(
            vocab_size=4096,
            max_positions=64,
            dropout=0.0,
            attention_dropout=0.0,
            initializer_scaling="width",
        ),
        data=DataConfig(name="files", sequence_length=64),
        optimizer=OptimizerConfig(learning_rate=2e-3),
        schedule=ScheduleConfig(follows="training_seconds", warmup=0.06, local_attention_tokens=2_000_000),
        budget=BudgetConfig(training_seconds=1200),
        evaluation=EvaluationConfig(every_steps=1000),
        checkpoint=CheckpointConfig(every_steps=1000),
        batch_size=16,
        log_every=100,
    )
    finetune = Config(
        task=ClassificationConfig(),
        data=DataConfig(name="glue/sst2", sequence_length=64, held_out=0.05),
        optimizer=OptimizerConfig(learning_rate=1e-3, weight_decay=0.1),
        schedule=ScheduleConfig(follows="steps", warmup=0.06),
        budget=BudgetConfig(steps=2000),
        evaluation=EvaluationConfig(every_steps=None),
        checkpoint=CheckpointConfig(every_steps=1000),
        batch_size=32,
        log_every=100,
    )
    return StudyConfig(
        train=train,
        finetune=finetune,
        search=SearchConfig(seeds=(100, 300, 500)),
        sizes=("2x64", "2x128", "4x128"),
    )
