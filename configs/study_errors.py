"""Are the weights of larger models easier to compress? Errors of 4 bits and of pruning 60 % by kind of
matrix, each beside the same network before its first update, after as many updates of every size (section
5.3, figure 9).

    python -m tlc_jax.study --config study_errors --workdir W --train.data.dir PAIRS --workers 2

The paper's figure has depths of one width, trained for the same time. Here the updates are equal, since
weights move with each of them; there are widths of one depth, too.

The scale `mini` is for 2 CPU cores, on the pairs of `study_translation`, whose model, data, batch and rate it
has; after as many updates even 1x32 is below the gate, the bigram model of the target. Cost: 12 minutes of
one core for each of three seeds, by the measured time of an update; with evaluation and errors half an hour
for two workers (docs/results/errors_by_module.md).

`study_errors:gpu` is for one GPU. Not run here.

`study_errors:paper` is the paper's: 6, 12 and 24 layers of width 768 on Wikipedia and books (`--config
pretrain`), finetuned on SST-2 or, with `--finetune.data.name glue/mnli`, on MNLI as in the figure. PAIRS is
then the folder of texts. Cost: 125,000 updates each, days of a TPU pod; not run here.
"""

from dataclasses import replace
from typing import Literal

from tlc_jax.config import BudgetConfig, CheckpointConfig, Config, ScheduleConfig
from tlc_jax.config.study_options import SearchConfig, StudyConfig
from tlc_jax.core.config_document import load_config

DEPTHS_AND_WIDTHS = {
    "mini": ("1x64", "2x64", "4x64", "2x32", "2x128"),
    "gpu": ("3x256", "6x256", "12x256", "6x128", "6x512"),
}


def get_config(scale: Literal["mini", "gpu", "paper"] = "mini") -> StudyConfig:
    if scale == "paper":
        study = replace(
            load_config("study_sst2:paper", StudyConfig),
            train=load_config("pretrain", Config),
            search=SearchConfig(),
            sizes=("6x768", "12x768", "24x768"),
        )
    else:
        study = replace(load_config(f"study_translation:{scale}", StudyConfig), compressed_at=())
        train = replace(
            study.train,
            schedule=ScheduleConfig(warmup=0.0, warmup_steps=study.train.schedule.warmup_steps),
            budget=BudgetConfig(steps=2000),
            checkpoint=CheckpointConfig(every_steps=500),
        )
        sizes, seeds = DEPTHS_AND_WIDTHS[scale], (100, 300, 500)
        study = replace(study, train=train, sizes=sizes, seeds=seeds, counted_in="training_seconds")
    return replace(study, oversized=(), errors=True, bits=(), sparsities=(), recovery=None)
