"""CoLA (GLUE): is a sentence acceptable English? From a pretrained run:

    python -m tlc_jax.prepare glue/cola --out DATA
    python -m tlc_jax.train --config finetune_cola --init-from RUN --workdir W --data.dir DATA

DATA may also be TFDS's folder with the prepared dataset. Model and tokenizer are those of RUN. 5 % of the
training set is kept to tune on, by hash; the validation set is read only by `python -m tlc_jax.evaluate W`.
What counts is the Matthews correlation (`matthews`), since the majority class has an accuracy of 0.7 and a
correlation of 0. Fairseq's recipe for RoBERTa is batch 16, warm-up 6 %, weight decay 0.1, 10 epochs (5,336
updates) at 1e-5. This config has a larger rate, for the small models of `pretrain_small`; it is not tuned.

Cost: 10 epochs of 8,100 sentences. Updates of a model of `pretrain_small` took 0.44 s on 2 CPU cores that had
other work too (200 of them, on generated sentences as long as CoLA's), so at most 40 minutes.

Expect little of small models: on the test set, BERT's of 2x128 and 4x256, pretrained on 3.3 billion words,
reach 0.00, and that of 4x512 0.28 (Turc et al. 2019); RoBERTa reaches 0.64 as base and 0.68 as large, on the
validation set (Liu et al. 2019). Seeds differ by several points.
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
        data=DataConfig(name="glue/cola", sequence_length=64, held_out=0.05),
        optimizer=OptimizerConfig(learning_rate=3e-4, weight_decay=0.1),
        schedule=ScheduleConfig(follows="steps", warmup=0.06),
        budget=BudgetConfig(steps=5000),
        evaluation=EvaluationConfig(every_steps=None, per_run=20),
        checkpoint=CheckpointConfig(every_steps=1000),
        batch_size=16,
        log_every=50,
    )
