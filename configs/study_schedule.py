"""Is a branch of a trunk as good as a run that was planned to end there, and what is a point worth that is
cut from a longer run? The control of every study with marks, on the pairs of `study_translation`.

    python -m tlc_jax.study --config study_schedule --workdir W --train.data.dir PAIRS --workers 2

PAIRS is that of `study_translation`, and so are the model, the warm-up and the rate. One size is trained with
three seeds: as a trunk with a branch at each mark, and for each mark as a run of its own whose rate falls
linearly over all of that budget. The first 200 updates are a warm-up in both, so the planned rate reaches
0.94 of the trunk's at 150 seconds and 0.98 at 600. Nothing is compressed.

The scale `mini` is for 2 CPU cores: 2x64 at 150, 300 and 600 seconds of one core. Cost: 29 minutes of one
core a seed, so 45 minutes for three seeds and two workers.

`study_schedule:gpu` is for one GPU, by the clock: 3x256 at 10, 20 and 40 seconds. Cost: two minutes a seed,
and the compilation of each run; not run here.
"""

from dataclasses import replace
from typing import Literal

from tlc_jax.config import BudgetConfig
from tlc_jax.config.study_options import StudyConfig
from tlc_jax.core.config_document import load_config

MARKS = (0.25, 0.5, 1)
SIZES = {"mini": "2x64", "gpu": "3x256"}
SECONDS = {"mini": 600, "gpu": 40}


def get_config(scale: Literal["mini", "gpu"] = "mini") -> StudyConfig:
    study = load_config(f"study_translation:{scale}", StudyConfig)
    planned = (f"schedule.cooldown=None,budget.training_seconds={SECONDS[scale] * mark:g}" for mark in MARKS)
    train = replace(
        study.train,
        budget=BudgetConfig(training_seconds=SECONDS[scale]),
        checkpoint=replace(study.train.checkpoint, marks="1/4,1/2,1"),
    )
    return replace(
        study,
        train=train,
        sizes=(SIZES[scale],),
        oversized=(),
        variants=("", *planned),
        seeds=(100, 300, 500),
        bits=(),
        sparsities=(),
        compressed_at=(),
        recovery=None,
    )
