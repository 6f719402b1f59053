"""Which size is best for each budget, and for each number of bytes: English to French on 2 CPU cores.

    python -m tlc_jax.study --config study_translation --workdir W --train.data.dir PAIRS --workers 2

PAIRS holds the tables that `data.train` names: Europarl, Tatoeba and Multi30k, or others that you name. The
time of an update of each size is measured first, on one core: leave the machine alone for these minutes. Then
each size is trained for as many updates as it does in 1,200 seconds, with a branch that is finished at each
mark, and compressed. The oversized 4x256 shows where the largest stops being the best; it has one seed.

Of the rates 0.035, 0.07 and 0.14 over the square root of the width, 0.035 was best or as good as another for
each of 1x32, 2x64, 2x128 and 3x192 in runs of 150 seconds (Multi30k validation, one seed each).

Cost: 24 minutes of one core for each size and seed, with its branches; then compression. Workers share it.
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
            head_size=32,  # divides every width
            vocab_size=2048,
            dropout=0.0,  # a few epochs: nothing to regularise
            attention_dropout=0.0,
            activation_dropout=0.0,
        ),
        task=TranslationConfig(bleu_sentences=200),
        data=PairsConfig(
            train="europarl_en_fr/*.tsv.zst=0.5,tatoeba_en_fr.train.tsv.gz=0.35,multi30k_en_fr.train.tsv.gz=0.15",
            validation="multi30k_en_fr.val.tsv.gz",
            test="multi30k_en_fr.test2016.tsv.gz",
            sequence_length=100,
        ),
        optimizer=OptimizerConfig(learning_rate=0.035, beta2=0.997, epsilon=1e-9, weight_decay=0.0),
        schedule=ScheduleConfig(follows="training_seconds", warmup=0.0, warmup_steps=200, cooldown=0.0),
        budget=BudgetConfig(training_seconds=1200),
        evaluation=EvaluationConfig(every_steps=None),
        checkpoint=CheckpointConfig(every_steps=500, marks="1/32,1/16,1/8,1/4,1/2,1"),
        batch_size=1024,
        log_every=100,
    )
    return StudyConfig(
        train=train,
        sizes=("1x32", "2x64", "2x128", "3x192", "4x256"),
        seeds=(100,),
        rate_scaling="sqrt_width",
        counted_in="steps",
        bits=(32, 8, 6, 4, 3, 2),
        sparsities=(0.0, 0.3, 0.6),
        compressed_at=("1/4", "1"),
        compression=CompressConfig(granularity="row", range="mse"),
    )
