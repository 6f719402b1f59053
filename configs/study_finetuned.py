r"""Are larger models harder to finetune? Sizes pretrained to the same loss, then finetuned for 10 epochs,
with rates that are searched on tuning data (section 3, "Larger Models Are Not Harder to Finetune"; table 2).

    python -m tlc_jax.study --config study_finetuned:gpu --workdir W --train.data.dir TEXT \
        --finetune.data.dir SST2

TEXT and SST2 are those of `study_sst2`. Every size is pretrained at one rate until its held-out loss is at
most train.evaluation.stop_at, in nats per byte, and for its budget at the latest: larger ones for less time.

`study_finetuned:gpu` is for one GPU, with the pretraining of `study_pretrain:gpu` at its peak rate. Its loss
is an estimate; cost: 12 pretrainings of 240 seconds at most, and 108 finetunings; not run here.

`study_finetuned:paper` is the paper's. 0.33 nats per byte are a perplexity of 4.3 where a token of GPT-2's
tokenizer has 4.4 bytes; the paper pretrained to 3.9 to 4.3. On MNLI: `--finetune.data.name glue/mnli
--finetune.data.sequence-length 128 --finetune.budget.steps 122720`. Cost: days of a TPU pod; not run here.

There is no scale for 2 CPU cores: after an hour of pretraining there a model is right on 80 % of SST-2, and a
bag of words, which it has to beat, on 81 %.
"""

from dataclasses import replace
from typing import Literal

from tlc_jax.config import CheckpointConfig, Config, EvaluationConfig
from tlc_jax.config.study_options import SearchConfig, StudyConfig
from tlc_jax.core.config_document import load_config

RATES = (1e-5, 2e-5, 3e-5)  # RoBERTa's (Liu et al., 2019)


def get_config(scale: Literal["gpu", "paper"] = "paper") -> StudyConfig:
    if scale == "paper":
        study = load_config("study_sst2:paper", StudyConfig)
        train = replace(
            load_config("pretrain", Config),
            evaluation=EvaluationConfig(every_steps=500, max_rows=16_384, stop_at=0.33),
        )
        sizes = ("12x768", "18x768", "24x768", "12x1024", "12x1536")
        search = SearchConfig(learning_rates=RATES, seeds=(100, 300, 500))
        study = replace(study, train=train, sizes=sizes, search=search)
    else:
        study = load_config("study_sst2:gpu", StudyConfig)
        train = replace(
            study.train,
            evaluation=EvaluationConfig(every_steps=250, max_rows=4096, stop_at=0.8),
            checkpoint=CheckpointConfig(every_steps=None),
        )
        search = replace(study.search, learning_rates=(1e-4, 3e-4, 1e-3))
        sizes, seeds = ("3x256", "6x256", "12x256", "6x512"), (100, 300, 500)
        study = replace(study, train=train, search=search, sizes=sizes, seeds=seeds)
    return replace(study, bits=(32,), sparsities=(0.0,), recovery=None)
