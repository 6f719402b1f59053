"""A larger model or a larger batch? Batch sizes with their learning rates, for several sizes, at equal time
(section 3, "Increase Model Size, Not Batch Size"; table 1 and figure 13).

    python -m tlc_jax.study --config study_batch --workdir W --train.data.dir PAIRS --workers 2

The scale `mini` is for 2 CPU cores, on the pairs of `study_translation`, whose model and data it has: one,
two and four times its batch, with rates that grow with the root of the batch and a warm-up over as many
tokens. In 300 seconds 3x192 is still behind 2x64, so it is left out. Cost: 300 seconds of one core for each
of two sizes, three batch sizes and three seeds; with branches 55 minutes for two workers.

`study_batch:gpu` is for one GPU, by the clock, 40 seconds each. Cost: 15 minutes a seed; not run here.

`study_batch:paper` is the paper's: 12x768 on Wikipedia and books (PAIRS is then the folder of texts that
`--config pretrain` tells about), with the rates of table 1. Cost: 1,000,000 seconds of the device each; not
run here.
"""

import math
from dataclasses import replace
from typing import Literal

from tlc_jax.config import BudgetConfig, Config, ScheduleConfig
from tlc_jax.config.study_options import StudyConfig
from tlc_jax.core.config_document import load_config

TABLE_1 = {256: 2e-4, 2048: 1e-3, 4096: 1.25e-3, 8192: 1.5e-3, 16_384: 1.875e-3}  # batch: rate


def get_config(scale: Literal["mini", "gpu", "paper"] = "mini") -> StudyConfig:
    if scale == "paper":
        train = replace(
            load_config("pretrain", Config),
            schedule=ScheduleConfig(follows="training_seconds", warmup=0.06),
            budget=BudgetConfig(training_seconds=1_000_000),
        )
        study = StudyConfig(train=train, sizes=("12x768",), variants=_variants(TABLE_1))
    else:
        study = load_config(f"study_translation:{scale}", StudyConfig)
        batch, rate = study.train.batch_size, study.train.optimizer.learning_rate
        checkpoint = replace(study.train.checkpoint, marks="1/8,1/4,1/2,1")
        train = replace(study.train, checkpoint=checkpoint)
        if scale == "mini":
            train = replace(train, budget=BudgetConfig(training_seconds=300))
        rates = {times * batch: math.sqrt(times) * rate for times in (1, 2, 4)}
        warmup = study.train.schedule.warmup_steps or 0
        variants = (
            f"{variant},schedule.warmup_steps={warmup * batch // rows}"
            for variant, rows in zip(_variants(rates), rates, strict=True)
        )
        sizes = {"mini": ("2x64", "2x128"), "gpu": ("2x128", "3x256", "6x512")}[scale]
        study = replace(study, train=train, sizes=sizes, variants=tuple(variants), seeds=(100, 300, 500))
    return replace(study, oversized=(), bits=(), sparsities=(), compressed_at=(), recovery=None)


def _variants(rates: dict[int, float]) -> tuple[str, ...]:
    return tuple(f"batch_size={batch},optimizer.learning_rate={rate:.4g}" for batch, rate in rates.items())
