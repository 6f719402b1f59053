"""English to French on a laptop: 3 + 3 layers, width 256, 8,192 joint entries, two hours on 2 CPU cores.

    python -m tlc_jax.train --config translate_small --workdir W --data.dir FOLDER --data.train TABLES

TABLES are .tsv files in FOLDER (docs/usage/data.md), with shares if they are to be mixed by weight. The
recipe is that of `translate`, scaled to a short run: 1,000 updates of warm-up in place of 8,000, half the
learning rate, and batches of about 1,024 tokens in place of 32,768.

Cost: two hours of training; one batch shape is compiled. After one hour with batches of one pair a row, on
Multi30k, Tatoeba and a Europarl shard: BLEU 50 on Multi30k test2016 (docs/results/translate_small.md).
"""

from tlc_jax.config import (
    BudgetConfig,
    CheckpointConfig,
    Config,
    EncoderDecoderConfig,
    EvaluationConfig,
    OptimizerConfig,
    PairsConfig,
    ScheduleConfig,
    TranslationConfig,
)


def get_config() -> Config:
    return Config(
        model=EncoderDecoderConfig(num_layers=3, hidden_size=256, vocab_size=8192),
        task=TranslationConfig(bleu_sentences=200),
        data=PairsConfig(train="catalogues", validation="", test="", sequence_length=100, held_out=0.02),
        optimizer=OptimizerConfig(learning_rate=1.0, beta2=0.997, epsilon=1e-9, weight_decay=0.0),
        schedule=ScheduleConfig(follows="training_seconds", warmup=0.0, noam_steps=1000),
        budget=BudgetConfig(training_seconds=7200),
        evaluation=EvaluationConfig(every_steps=None, per_run=20),
        checkpoint=CheckpointConfig(every_steps=500, keep=5),
        batch_size=1024,
        log_every=50,
    )
