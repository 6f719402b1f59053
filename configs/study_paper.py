"""The paper's compression study (section 4) with its search (appendix D).

    python -m tlc_jax.study --config study_paper --workdir W --train.data.dir TEXT --finetune.data.dir SST2

TEXT holds Wikipedia and books (`--config pretrain` says how to get them), SST2 is what `python -m
tlc_jax.prepare glue/sst2 --out SST2` wrote.

Every size of section 2.1 is pretrained for the same 1,000,000 seconds, then finetuned on SST-2 for 10 epochs
with each combination of appendix D: batch 16, 32, 64; learning rate 5e-4, 3e-4, 1e-4; dropout 0.1, 0.2, 0.3;
seeds 100, 300, 500. The combination with the best mean over its seeds on the tuning set (5 % of the training
set) is compressed. On MNLI 10 epochs are 117,000 updates: `--finetune.data.name glue/mnli
--finetune.data.sequence-length 128 --finetune.budget.steps 117000`.

The paper's 1,000,000 seconds are those of one NVIDIA V100 with 16 GB, on which it timed an update of each
size, with the largest micro-batch that fits and gradients accumulated (paper 2.2); the models themselves were
trained on TPUs v3-8 and on eight V100s. Here they are seconds of the devices that train. On other devices the
paper's budget is another number of seconds: as many as the updates of 12x768 take that a V100 does in
1,000,000 s (`python -m tlc_jax.bench step-time` measures one).

Cost: not run here; nine sizes of 278 hours each, and 81 finetunings of each.
"""

from tlc_jax.config import (
    BudgetConfig,
    CheckpointConfig,
    ClassificationConfig,
    CompressConfig,
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
        model=ModelConfig(compute_dtype="bfloat16"),
        data=DataConfig(),
        optimizer=OptimizerConfig(learning_rate=1.5e-3),
        schedule=ScheduleConfig(follows="training_seconds", warmup=0.06),
        budget=BudgetConfig(training_seconds=1_000_000),
        evaluation=EvaluationConfig(every_steps=1000, max_rows=16_384),
        batch_size=8192,
        micro_batch=256,
    )
    finetune = Config(
        task=ClassificationConfig(),
        data=DataConfig(name="glue/sst2", held_out=0.05),
        optimizer=OptimizerConfig(weight_decay=0.1),
        schedule=ScheduleConfig(follows="steps", warmup=0.06),
        budget=BudgetConfig(steps=20_000),  # 10 epochs at batch 32
        evaluation=EvaluationConfig(every_steps=None),
        checkpoint=CheckpointConfig(every_steps=5000),
        batch_size=32,
    )
    return StudyConfig(
        train=train,
        finetune=finetune,
        search=SearchConfig(
            learning_rates=(5e-4, 3e-4, 1e-4),
            batch_sizes=(16, 32, 64),
            dropouts=(0.1, 0.2, 0.3),
            seeds=(100, 300, 500),
        ),
        sizes=("3x768", "6x768", "12x768", "18x768", "24x768", "12x256", "12x512", "12x1024", "12x1536"),
        bits=(32, 8, 7, 6, 5, 4, 3),
        sparsities=(0.0, 0.15, 0.3, 0.45, 0.6, 0.75, 0.9),
        compression=CompressConfig(zero="float"),  # ranges begin at the smallest weight (4.2)
    )
