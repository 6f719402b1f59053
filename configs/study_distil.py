"""Train large, then compress it; or let a small model learn from it? At equal total time and equal bytes (not
in the paper, which leaves distillation out for its cost: section 4.1).

    python -m tlc_jax.study --config study_distil --workdir W --train.data.dir PAIRS --workers 2

PAIRS, model, rate and warm-up are those of `study_translation`. Every size is trained for the whole budget.
Teachers are the runs that are finished at half of it; a student is trained for the other half, in which the
teacher's part of its updates counts. All are compressed alike.

The scale `mini` is for 2 CPU cores: student 1x32, teachers 2x64 and 2x128, 400 seconds of one core for each
of three seeds. 2x64 learns from nobody: 2x128 is behind it after 200 seconds (0.863 and 0.825 nats per byte),
and taught by a model that is no better it lost (1.067 after 1,000 updates, alone 1.056). Runs end at half of
the time, too: the teachers, and a student's size alone after as long as a student learns. Of weights of the
teacher of 0.5 and 0.9 and temperatures of 1 and 2, 0.9 and 1 were best: 1.177, and 1.189 (0.5 and 1), 1.227
(0.5 and 2), 1.242 (0.9 and 2), alone 1.229 (Multi30k validation, one seed: 1,300 updates of 1x32, taught by
2x64 after 200 seconds). Cost: an hour for two workers.

`study_distil:gpu` is for one GPU, by the clock, 40 seconds each. Cost: 10 minutes a seed; not run here.

`study_distil:paper` teaches 12x256 and 6x768 by 24x768, 1,000,000 seconds of the device each; not run here.
"""

from dataclasses import replace
from typing import Literal

from tlc_jax.config import BudgetConfig
from tlc_jax.config.study_options import StudyConfig
from tlc_jax.core.config_document import load_config

SIZES = {
    "mini": ("1x32", "2x64", "2x128"),
    "gpu": ("2x128", "3x256", "6x512"),
    "paper": ("12x256", "6x768", "24x768"),
}
TAUGHT = {
    "mini": ("1x32:2x64@1/2", "1x32:2x128@1/2"),
    "gpu": ("2x128:6x512@1/2", "3x256:6x512@1/2"),
    "paper": ("12x256:24x768@1/2", "6x768:24x768@1/2"),
}


def get_config(scale: Literal["mini", "gpu", "paper"] = "mini") -> StudyConfig:
    base = "study_pretrain:paper" if scale == "paper" else f"study_translation:{scale}"
    study = load_config(base, StudyConfig)
    train = replace(
        study.train,
        schedule=replace(study.train.schedule, cooldown=0.0),
        checkpoint=replace(study.train.checkpoint, marks="1/2,1"),
    )
    if scale == "mini":
        distil = replace(train.distil, weight=0.9)
        train = replace(train, budget=BudgetConfig(training_seconds=400), distil=distil)
    return replace(
        study,
        train=train,
        sizes=SIZES[scale],
        oversized=(),
        distillations=TAUGHT[scale],
        seeds=() if scale == "paper" else (100, 300, 500),
        sparsities=(0.0,),
        recovery=None,
        compressed_at=("1/2", "1"),
    )
