"""MNLI (GLUE): does a premise entail a sentence, contradict it, or neither? From a pretrained run:

    python -m tlc_jax.prepare glue/mnli --out DATA
    python -m tlc_jax.train --config finetune_mnli --init-from RUN --workdir W --data.dir DATA

DATA may also be TFDS's folder with the prepared dataset. Model and tokenizer are those of RUN. 5 % of the
training set is kept to tune on, by hash; the matched and the mismatched validation set are read only by
`python -m tlc_jax.evaluate W`. Labels are GLUE's (entailment, neutral, contradiction). fairseq orders them
differently, so the names are stored with the run.

Cost: 2 epochs of the whole training set are 23,000 updates of 32 pairs; texts are cut at 64 tokens, the
longest input of the models of `pretrain_small`.
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
        data=DataConfig(name="glue/mnli", sequence_length=64, held_out=0.05),
        optimizer=OptimizerConfig(learning_rate=3e-4, weight_decay=0.1),
        schedule=ScheduleConfig(follows="steps", warmup=0.06),
        budget=BudgetConfig(steps=23_000),
        evaluation=EvaluationConfig(every_steps=None, per_run=20),
        checkpoint=CheckpointConfig(every_steps=1000),
        batch_size=32,
        log_every=50,
    )
