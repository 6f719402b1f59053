"""`study_translation` at the scale of one GPU: English to French, four sizes at 40 seconds each.

    python -m tlc_jax.study --config study_translation_gpu --workdir W --train.data.dir PAIRS

Europarl, Tatoeba and Multi30k hold half a million pairs, so the budget is short: in 40 seconds of an H200
the largest size sees them once, the smallest 11 times (docs/results/translation_gpu.md).

Cost: 6.5 minutes of one H200 without XLA's tuning of kernels (XLA_FLAGS=--xla_gpu_autotune_level=0), of which
3 are training; with it several minutes more.
"""

from tlc_jax.config import (
    BudgetConfig,
    CheckpointConfig,
    CompressConfig,
    Config,
    EncoderDecoderConfig,
    EvaluationConfig,
    OptimizerConfig,
    PairsConfig,
    ScheduleConfig,
    TranslationConfig,
)
from tlc_jax.config.study_options import StudyConfig


def get_config() -> StudyConfig:
    train = Config(
        model=EncoderDecoderConfig(
            head_size=64,
            vocab_size=8192,
            dropout=0.0,  # a few epochs: nothing to regularise
            attention_dropout=0.0,
            activation_dropout=0.0,
            compute_dtype="bfloat16",
            remat="none",  # there is memory enough
        ),
        task=TranslationConfig(bleu_sentences=0, row_multiple=32),
        data=PairsConfig(
            train="europarl_en_fr/*.tsv.zst=0.5,tatoeba_en_fr.train.tsv.gz=0.35,multi30k_en_fr.train.tsv.gz=0.15",
            validation="multi30k_en_fr.val.tsv.gz",
            test="multi30k_en_fr.test2016.tsv.gz",
            sequence_length=100,
        ),
        optimizer=OptimizerConfig(learning_rate=0.03, beta2=0.997, epsilon=1e-9, weight_decay=0.0),
        schedule=ScheduleConfig(follows="training_seconds", warmup=0.0, warmup_steps=100, cooldown=0.0),
        budget=BudgetConfig(training_seconds=40),
        evaluation=EvaluationConfig(every_steps=None),
        checkpoint=CheckpointConfig(every_steps=None, marks="1/8,1/4,1/2,1"),
        batch_size=16_384,
        log_every=100,
    )
    return StudyConfig(
        train=train,
        sizes=("3x256", "6x512", "2x128", "6x768"),
        seeds=(100,),
        rate_scaling="sqrt_width",
        bits=(32, 8, 6, 4, 3, 2),
        sparsities=(0.0,),
        compression=CompressConfig(granularity="row", range="mse"),
    )
