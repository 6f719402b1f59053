"""SST-2 (GLUE): positive or negative, one sentence of a film review. From a pretrained run:

    python -m tlc_jax.prepare glue/sst2 --out DATA
    python -m tlc_jax.train --config finetune_sst2 --init-from RUN --workdir W --data.dir DATA

DATA may also be TFDS's folder with the prepared dataset. Model and tokenizer are those of RUN. 5 % of the
training set is kept to tune on, by hash; the validation set is read only by `python -m tlc_jax.evaluate W`.
Fairseq's recipe for RoBERTa is batch 32, warm-up 6 %, weight decay 0.1, 10 epochs at 1e-5. This config has a
larger rate and 3 epochs, for the small models of `pretrain_small`; neither is tuned.

Cost: 3 epochs of 64,000 sentences, not timed.
"""

from tlc_jax.config import (
    BudgetConfig,
    CheckpointConfig,
    ClassificationConfig,
    Config,
    DataConfig,
    EvaluationConfig,
    OptimizerConfig,
    ScheduleConfig,
)


def get_config() -> Config:
    return Config(
        task=ClassificationConfig(),
        data=DataConfig(name="glue/sst2", sequence_length=64, held_out=0.05),
        optimizer=OptimizerConfig(learning_rate=3e-4, weight_decay=0.1),
        schedule=ScheduleConfig(follows="steps", warmup=0.06),
        budget=BudgetConfig(steps=6000),
        evaluation=EvaluationConfig(every_steps=None, per_run=20),
        checkpoint=CheckpointConfig(every_steps=1000),
        batch_size=32,
        log_every=50,
    )
