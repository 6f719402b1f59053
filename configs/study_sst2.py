"""Sizes that are pretrained for the same time on your text, finetuned on SST-2 and compressed (section 4).

    python -m tlc_jax.study --config study_sst2 --workdir W --train.data.dir TEXT --finetune.data.dir SST2

TEXT holds .txt, .txt.gz or .txt.zst files (a blank line between documents), .jsonl or .parquet; SST2 is what
`python -m tlc_jax.prepare glue/sst2 --out SST2` wrote.

The scale `mini` is for 2 CPU cores: three sizes, 20 minutes of pretraining each, three seeds of finetuning.
Leave the machine to it: sizes are compared at equal training time, by the clock. Cost: one hour of
pretraining; with finetuning and compression about 100 minutes.

`study_sst2:gpu` is for one GPU: the sizes of `study_pretrain:gpu`, ten epochs of finetuning with two rates.
Cost: half an hour; not run here.

`study_sst2:paper` is the paper's compression study, with its search (appendix D): every size of table 2 and
the smaller ones are pretrained for the same 1,000,000 seconds on Wikipedia and books (`--config pretrain`
says how to get them), then finetuned with each combination of batch 16, 32, 64; learning rate 5e-4, 3e-4,
1e-4; dropout 0.1, 0.2, 0.3; seeds 100, 300, 500. The combination with the best mean over its seeds on the
tuning set (5 % of the training set) is compressed, with pruning at once and in rounds with recovery (4.3). On
MNLI: `--finetune.data.name glue/mnli --finetune.data.sequence-length 128`.

The paper's 1,000,000 seconds are those of one NVIDIA V100 with 16 GB, on which it timed an update of each
size, with the largest micro-batch that fits and gradients accumulated (2.2); the models themselves were
trained on TPUs v3-8 and on eight V100s. Here they are seconds of the devices that train. On other devices the
paper's budget is another number of seconds: as many as the updates of 12x768 take that a V100 does in
1,000,000 s (`python -m tlc_jax.bench step-time` measures one). Cost: not run here; nine sizes of 278 hours
each, and 81 finetunings of each.
"""

from dataclasses import replace
from typing import Literal

from tlc_jax.config import (
    BudgetConfig,
    CheckpointConfig,
    ClassificationConfig,
    Config,
    DataConfig,
    EvaluationConfig,
    ModelConfig,
    OptimizerConfig,
    RecoveryConfig,
    ScheduleConfig,
)
from tlc_jax.config.study_options import SearchConfig, StudyConfig
from tlc_jax.core.config_document import load_config


def get_config(scale: Literal["mini", "gpu", "paper"] = "mini") -> StudyConfig:
    return {"mini": _mini, "gpu": _gpu, "paper": _paper}[scale]()


def _mini() -> StudyConfig:
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


def _gpu() -> StudyConfig:
    finetune = _mini().finetune
    assert finetune is not None
    return replace(
        load_config("study_pretrain:gpu", StudyConfig),
        finetune=replace(finetune, budget=BudgetConfig(steps=20_000)),  # 10 epochs
        search=SearchConfig(learning_rates=(1e-4, 3e-4), seeds=(100, 300, 500)),
    )


def _paper() -> StudyConfig:
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
    return replace(
        load_config("study_pretrain:paper", StudyConfig),
        finetune=finetune,
        search=SearchConfig(
            learning_rates=(5e-4, 3e-4, 1e-4),
            batch_sizes=(16, 32, 64),
            dropouts=(0.1, 0.2, 0.3),
            seeds=(100, 300, 500),
        ),
        bits=(32, 8, 7, 6, 5, 4, 3),
        recovery=RecoveryConfig(control=True),
    )
