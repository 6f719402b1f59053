"""A BERT or RoBERTa that transformers saved, finetuned on SST-2, MNLI or CoLA (GLUE):

    python -m tlc_jax.prepare glue/sst2 --out DATA
    python -m tlc_jax.train --config finetune_bert --init-from hf:FOLDER --workdir W --data.dir DATA
    python -m tlc_jax.evaluate W@best

`finetune_bert:mnli` and `finetune_bert:cola` are the same for the other two. FOLDER holds config.json,
safetensors files and tokenizer.json, such as those of all-MiniLM-L6-v2 (6 layers of 384), for which the
rate is meant; it is not tuned. Give larger models less (BERT base: --optimizer.learning-rate 3e-5).

The rest is BERT's recipe (Devlin et al. 2019, A.3): batch 32, 3 epochs, warm-up 10 %, decay of 0.01 on
matrices, dropout 0.1. 5 % of the training set is kept to tune on, by hash, and evaluated ten times; the
best evaluation by the primary metric is kept as W@best, and the reported set is read only by `evaluate`.
--optimizer.layer-decay 0.9 lets lower layers learn more slowly.

Cost, estimated from 100 updates of all-MiniLM-L6-v2 on SST-2 on one core of an AMD EPYC that had other work
(its processor time: 0.5 s an update, 18 s an evaluation of 3,398 sentences, and once 7 s for each of 12
shapes that are compiled): 55 minutes of one core, about half an hour of two. MNLI has 6 times as many
updates, of pairs with 3 times as many tokens: some 12 hours of one core; CoLA 10 minutes. Neither was run.
"""

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
    ScheduleConfig,
)

EPOCH = {"sst2": 2000, "mnli": 11_660, "cola": 254}  # updates of 32 examples, without those to tune on
EPOCHS = 3
LENGTH = {"sst2": 64, "mnli": 128, "cola": 64}


def get_config(scale: Literal["sst2", "mnli", "cola"] = "sst2") -> Config:
    return Config(
        model=ModelConfig(remat="none"),
        task=ClassificationConfig(dropout=0.1, head_dropout=0.1),
        data=DataConfig(name=f"glue/{scale}", sequence_length=LENGTH[scale], held_out=0.05),
        optimizer=OptimizerConfig(
            learning_rate=1e-4, beta2=0.999, epsilon_form="optax", weight_decay=0.01, decayed="matrices"
        ),
        schedule=ScheduleConfig(follows="steps", warmup=0.1),
        budget=BudgetConfig(steps=EPOCHS * EPOCH[scale]),
        evaluation=EvaluationConfig(every_steps=None, per_run=10),
        checkpoint=CheckpointConfig(every_steps=1000, best=True),
        batch_size=32,
        log_every=50,
    )
