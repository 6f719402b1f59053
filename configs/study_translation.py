"""Which size is best for each budget, and for each number of bytes: English to French (figure 5, and sections
3 and 4 for translation).

    python -m tlc_jax.study --config study_translation --workdir W --train.data.dir PAIRS --workers 2

PAIRS holds the tables that `data.train` names: Europarl, Tatoeba and Multi30k, or others that you name.

The scale `mini` is for 2 CPU cores. The time of an update of each size is measured first, on one core: leave
the machine alone for these minutes. Then each size is trained for as many updates as it does in 1,200
seconds, with a branch that is finished at each mark, and compressed: quantized, pruned at once and in rounds
with recovery, beside the dense model trained as long. The oversized 4x256, trained once and not compressed,
shows where the largest stops being the best. Of the rates 0.035, 0.07 and 0.14 over the square root of the
width, 0.035 was best or as good as another for each of 1x32, 2x64, 2x128 and 3x192 in runs of 150 seconds
(Multi30k validation, one seed each).
Cost: 24 minutes of one core for each size and seed, with its branches, and half an hour for each seed to
compress all sizes: 3.4 hours for two workers.

`study_translation:gpu` is for one GPU, by the clock. In its 40 seconds of an H200 the largest size sees these
half a million pairs once, the smallest 11 times (docs/results/translation_gpu.md). Cost: 6.5 minutes of one
H200 without XLA's tuning of kernels (docs/results/translation_gpu.md has the flags), of which 3 are training;
with it several minutes more.

`study_translation:paper` has the sizes of section 2.1 on WMT14, for a TPU v3-8: PAIRS is what `python -m
tlc_jax.prepare wmt14_translate/fr-en --out PAIRS` wrote. The paper names no budget: a day each. Cost: 11 days
for one seed; not run here (docs/results/paper_items.md has the memory of each size). The state is split over
the 8 devices, without which 6x2048 does not fit.
"""

from dataclasses import replace
from typing import Literal

from tlc_jax.config import (
    BudgetConfig,
    CheckpointConfig,
    CompressConfig,
    Config,
    EncoderDecoderConfig,
    EvaluationConfig,
    MeshConfig,
    OptimizerConfig,
    PairsConfig,
    RecoveryConfig,
    ScheduleConfig,
    TranslationConfig,
)
from tlc_jax.config.study_options import StudyConfig
from tlc_jax.core.config_document import load_config

DATA = PairsConfig(
    train="europarl_en_fr/*.tsv.zst=0.5,tatoeba_en_fr.train.tsv.gz=0.35,multi30k_en_fr.train.tsv.gz=0.15",
    validation="multi30k_en_fr.val.tsv.gz",
    test="multi30k_en_fr.test2016.tsv.gz",
    sequence_length=100,
)
MODEL = EncoderDecoderConfig(  # a few epochs: nothing to regularise
    dropout=0.0, attention_dropout=0.0, activation_dropout=0.0
)
ADAM = OptimizerConfig(beta2=0.997, epsilon=1e-9, weight_decay=0.0)
TRUNK = ScheduleConfig(follows="training_seconds", warmup=0.0, cooldown=0.0)


def get_config(scale: Literal["mini", "gpu", "paper"] = "mini") -> StudyConfig:
    return {"mini": _mini, "gpu": _gpu, "paper": _paper}[scale]()


def _mini() -> StudyConfig:
    train = Config(
        model=replace(MODEL, vocab_size=2048, head_size=32),  # 32 divides every width
        task=TranslationConfig(bleu_sentences=200),
        data=DATA,
        optimizer=replace(ADAM, learning_rate=0.035),
        schedule=replace(TRUNK, warmup_steps=200),
        budget=BudgetConfig(training_seconds=1200),
        evaluation=EvaluationConfig(every_steps=None),
        checkpoint=CheckpointConfig(every_steps=500, marks="1/32,1/16,1/8,1/4,1/2,1"),
        batch_size=1024,
        log_every=100,
    )
    return StudyConfig(
        train=train,
        sizes=("1x32", "2x64", "2x128", "3x192"),
        oversized=("4x256",),
        seeds=(100, 300, 500),
        rate_scaling="sqrt_width",
        counted_in="steps",
        bits=(32, 8, 6, 5, 4, 3, 2),
        sparsities=(0.0, 0.3, 0.6),
        compressed_at=("1/4", "1"),
        compression=CompressConfig(granularity="row", range="mse"),
        # at most 448 updates a round, which are many beside the 3,200 of 3x192
        recovery=RecoveryConfig(levels=(0.3, 0.6), max_epochs=0.03, evaluate_every=50, control=True),
    )


def _gpu() -> StudyConfig:
    train = Config(
        model=replace(MODEL, vocab_size=8192, head_size=64, compute_dtype="bfloat16", remat="none"),
        task=TranslationConfig(bleu_sentences=0, row_multiple=32),
        data=DATA,
        optimizer=replace(ADAM, learning_rate=0.03),
        schedule=replace(TRUNK, warmup_steps=100),
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


def _paper() -> StudyConfig:
    train = load_config("translate", Config)
    schedule = replace(train.schedule, follows="training_seconds")
    budget = BudgetConfig(training_seconds=86_400)
    return StudyConfig(
        # 6x2048 does not fit unless its state is split; one mesh for all sizes
        train=replace(train, schedule=schedule, budget=budget, mesh=MeshConfig(fsdp=8)),
        sizes=(
            *("6x128", "6x256", "6x512", "6x1024", "6x2048"),
            *("2x512", "8x512", "2x1024", "8x1024"),
        ),
        seeds=(100,),
        bits=(32, 8, 6, 4),
        sparsities=(0.0, 0.15, 0.3, 0.45, 0.6, 0.75, 0.9),
        compression=CompressConfig(zero="float"),  # ranges begin at the smallest weight (4.2)
    )
