"""Does a larger model still train faster where there is little text? All of it, 5 % and 1 % (section 5.1,
figure 14).

    python -m tlc_jax.study --config study_data --workdir W --train.data.dir PAIRS --workers 2

The scale `mini` is for 2 CPU cores, on the pairs of `study_translation`, whose model, data, batch and warm-up
it has. In 150 seconds each size passes its gate with all text, and 1x32 sees 1 % of the text some 75
times in 200. Cost: 200 seconds of one core for each of three sizes, three shares and three seeds; with
branches an hour for two workers.

`study_data:gpu` is for one GPU, by the clock, 40 seconds each. Cost: 20 minutes a seed; not run here.

`study_data:paper` is the paper's: the depths 3 to 24 at width 768 on Wikipedia and books (PAIRS is then the
folder of texts that `--config pretrain` tells about). Cost: 1,000,000 seconds of the device each; not run
here.
"""

from dataclasses import replace
from typing import Literal

from tlc_jax.config import BudgetConfig, Config, ScheduleConfig
from tlc_jax.config.study_options import StudyConfig
from tlc_jax.core.config_document import load_config

SHARES = ("", "data_share=0.05", "data_share=0.01")


def get_config(scale: Literal["mini", "gpu", "paper"] = "mini") -> StudyConfig:
    if scale == "paper":
        train = replace(
            load_config("pretrain", Config),
            schedule=ScheduleConfig(follows="training_seconds", warmup=0.06),
            budget=BudgetConfig(training_seconds=1_000_000),
        )
        study = StudyConfig(train=train, sizes=("3x768", "6x768", "12x768", "18x768", "24x768"))
    else:
        study = load_config(f"study_translation:{scale}", StudyConfig)
        checkpoint = replace(study.train.checkpoint, marks="1/16,1/8,1/4,1/2,1")
        train = replace(study.train, checkpoint=checkpoint)
        if scale == "mini":
            train = replace(train, budget=BudgetConfig(training_seconds=200))
        sizes = {"mini": ("1x32", "2x64", "2x128"), "gpu": ("2x128", "3x256", "6x512")}[scale]
        study = replace(study, train=train, sizes=sizes, seeds=(100, 300, 500))
    return replace(
        study, oversized=(), variants=SHARES, bits=(), sparsities=(), compressed_at=(), recovery=None
    )
