"""Does a narrow attention window at first end the plateau of masked language modelling, for all sizes alike?

    python -m tlc_jax.study --config study_local_attention --workdir W --train.data.dir TEXT --workers 2

TEXT is that of `pretrain_small`. A vocabulary of 320 entries, bytes and a few merges, is the setting in which
small models get below the two-sided bigram; rows are as long as the paper's. Each size is trained for 2,000
updates with the window, which widens over 2 M tokens, and without, with two seeds; nothing is compressed
(docs/local_attention.md).

Cost: about half an hour of one idle CPU core, most of it for 2x128.
"""

from dataclasses import replace

from tlc_jax.config import BudgetConfig, Config, ScheduleConfig
from tlc_jax.config.study_options import StudyConfig
from tlc_jax.core.config_document import load_config

WINDOW = 2_048_000  # tokens, 1,000 updates


def get_config() -> StudyConfig:
    small = load_config("pretrain_small", Config)
    train = replace(
        small,
        model=replace(small.model, head_size=32, vocab_size=320, max_positions=128),
        data=replace(small.data, sequence_length=128),
        optimizer=replace(small.optimizer, learning_rate=0.0226),
        schedule=ScheduleConfig(warmup=0.0, warmup_steps=200, cooldown=0.2, local_attention_tokens=WINDOW),
        budget=BudgetConfig(steps=2000),
        evaluation=replace(small.evaluation, every_steps=250, per_run=None, max_rows=512),
    )
    return StudyConfig(
        train=train,
        sizes=("1x32", "2x64", "2x128"),
        variants=("", "schedule.local_attention_tokens=None"),
        seeds=(0, 1),
        rate_scaling="sqrt_width",
        bits=(),
        sparsities=(),
    )
