"""Masked language models of several depths and widths: which is best for each budget, in updates, time and
operations (section 3, figures 2 to 4; figure 10), and compressed (section 4).

    python -m tlc_jax.study --config study_pretrain --workdir W --train.data.dir TEXT --workers 2

TEXT is that of `pretrain_small`. The scale `mini` is for 2 CPU cores: depths 2, 3 and 4 at width 64, widths
64, 96 and 128 at depth 2, with a vocabulary of 320 entries, with which models of these sizes get below the
two-sided bigram, and smaller ones do not (docs/local_attention.md), in rows of 128 tokens. The time of an
update of each size is measured first, on one core: leave the machine alone for these minutes. Cost: 300
seconds of one core for each size and seed, with branches 47 minutes for three seeds and two workers, and 35
minutes for compression. Models are compressed at half of the time, too: 2x64 has about as many updates there
as 2x128 at its end.

`study_pretrain:gpu` is for one GPU, by the clock. TEXT should hold a billion tokens, so that even the fastest
size sees it no more than four times. Cost: 5 sizes of 240 seconds; not run here.

`study_pretrain:paper` has the nine sizes of section 2.1, on Wikipedia and books (`--config pretrain` says how
to get them). Cost: 1,000,000 seconds of the device for each size; not run here.
"""

from dataclasses import replace
from typing import Literal

from tlc_jax.config import (
    BudgetConfig,
    CheckpointConfig,
    CompressConfig,
    Config,
    DataConfig,
    EvaluationConfig,
    ModelConfig,
    OptimizerConfig,
    ScheduleConfig,
)
from tlc_jax.config.study_options import StudyConfig
from tlc_jax.core.config_document import load_config

MODEL = ModelConfig(  # a few epochs: nothing to regularise
    dropout=0.0, attention_dropout=0.0, initializer_scaling="width"
)
TRUNK = ScheduleConfig(follows="training_seconds", warmup=0.0, cooldown=0.0)


def get_config(scale: Literal["mini", "gpu", "paper"] = "mini") -> StudyConfig:
    return {"mini": _mini, "gpu": _gpu, "paper": _paper}[scale]()


def _mini() -> StudyConfig:
    train = Config(
        model=replace(MODEL, vocab_size=320, head_size=32),  # 32 divides every width
        data=DataConfig(name="files", sequence_length=128),
        optimizer=OptimizerConfig(learning_rate=0.0226),
        schedule=replace(TRUNK, warmup_steps=200, local_attention_tokens=2_048_000),
        budget=BudgetConfig(training_seconds=300),
        evaluation=EvaluationConfig(every_steps=None, per_run=16, max_rows=512),
        checkpoint=CheckpointConfig(every_steps=500, marks="1/4,1/2,1"),
        batch_size=16,
        log_every=100,
    )
    return StudyConfig(
        train=train,
        sizes=("2x64", "3x64", "4x64", "2x96", "2x128"),
        seeds=(100, 300, 500),
        rate_scaling="sqrt_width",
        counted_in="steps",
        bits=(32, 8, 6, 4, 3, 2),
        sparsities=(0.0, 0.3, 0.6),
        compressed_at=("1/2", "1"),
        compression=CompressConfig(granularity="row", range="mse"),
    )


def _gpu() -> StudyConfig:
    train = Config(
        model=replace(MODEL, vocab_size=8192, compute_dtype="bfloat16", remat="none"),
        data=DataConfig(name="files", sequence_length=128),
        optimizer=OptimizerConfig(learning_rate=0.0226),
        schedule=replace(TRUNK, warmup_steps=500),
        budget=BudgetConfig(training_seconds=240),
        evaluation=EvaluationConfig(every_steps=None, per_run=16, max_rows=4096),
        checkpoint=CheckpointConfig(every_steps=None, marks="1/4,1/2,1"),
        batch_size=512,
        log_every=100,
    )
    return StudyConfig(
        train=train,
        sizes=("3x256", "6x256", "12x256", "6x512", "6x768"),
        rate_scaling="sqrt_width",
        bits=(32, 8, 6, 4, 3, 2),
        sparsities=(0.0, 0.3, 0.6),
        compression=CompressConfig(granularity="row", range="mse"),
    )


def _paper() -> StudyConfig:
    train = replace(
        load_config("pretrain", Config),
        schedule=ScheduleConfig(follows="training_seconds", warmup=0.06),
        budget=BudgetConfig(training_seconds=1_000_000),
    )
    return StudyConfig(
        train=train,
        sizes=("3x768", "6x768", "12x768", "18x768", "24x768", "12x256", "12x512", "12x1024", "12x1536"),
        bits=(32, 8, 6, 4),
        sparsities=(0.0, 0.15, 0.3, 0.45, 0.6, 0.75, 0.9),
        compression=CompressConfig(zero="float"),  # ranges begin at the smallest weight (4.2)
    )
