"""Train large, then compress it; or let a small model learn from it? At equal total time and equal bytes (not
in the paper, which leaves distillation out for its cost: section 4.1).

    python -m tlc_jax.study --config study_distil --workdir W --train.data.dir PAIRS --workers 2

PAIRS, model, rate and warm-up are those of `study_translation`. Every size is trained for the whole budget.
Teachers are the runs that are finished at half of it; a student is trained for the other half, in which the
teacher's part of its updates counts. All are compressed alike.

The scale `mini` is for 2 CPU cores: teacher 2x128, the best size after 366 seconds of `study_translation`,
students 1x32 and 2x64, 400 seconds of one core for each of three seeds. (3x192 is behind 2x128 until 1,200
seconds, and would teach after 200.) Of weights of the teacher of 0.5 and 0.9 and temperatures of 1 and 2, 0.5
and 1 were best: 1.067 nats per byte, and 1.076, 1.123 and 1.132 with the others (Multi30k validation, one
seed: 1,000 updates of 2x64, taught by 2x128 after 585, some 75 seconds each). Alone, it had 1.056. Cost: an
hour and a quarter for two workers.

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
    "mini": ("1x32:2x128@1/2", "2x64:2x128@1/2"),
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
        train = replace(train, budget=BudgetConfig(training_seconds=400))
    return replace(
        study,
        train=train,
        sizes=SIZES[scale],
        oversized=(),
        distillations=TAUGHT[scale],
        seeds=() if scale == "paper" else (100, 300, 500),
        sparsities=(0.0,),
        recovery=None,
        compressed_at=(),
    )
