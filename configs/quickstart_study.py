"""The paper in miniature: three sizes, equal time, compressed; which is best for which bytes?

    python -m tlc_jax.study --config quickstart_study --workdir runs/study

Translates English into French: the message catalogues that are installed with Babel, Django, Sphinx and
pycountry, so nothing is downloaded. Each of 1x32, 2x64 and 2x128 is trained for 40 seconds, with a branch
that is finished at a quarter and at half of it, then quantized to 8, 6, 4, 3 and 2 bits. Models that are no
better than counts of word pairs are called not comparable. On your own pairs: `study_translation`; with
finetuning: `study_sst2`.

Cost: 4 minutes from a cold start on 2 CPU cores; longer beside other jobs, which also take updates from the
sizes that they run beside."""

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
            vocab_size=1024,
            dropout=0.0,
            attention_dropout=0.0,
            activation_dropout=0.0,
        ),
        task=TranslationConfig(bleu_sentences=0),
        data=PairsConfig(train="catalogues", validation="", test="", sequence_length=64, held_out=0.04),
        optimizer=OptimizerConfig(learning_rate=0.06, beta2=0.98, epsilon=1e-9, weight_decay=0.0),
        schedule=ScheduleConfig(follows="training_seconds", warmup=0.05, cooldown=0.0),
        budget=BudgetConfig(training_seconds=40),
        evaluation=EvaluationConfig(every_steps=None),
        checkpoint=CheckpointConfig(every_steps=None, marks="1/4,1/2,1"),
        batch_size=1024,
        log_every=100,
    )
    return StudyConfig(
        train=train,
        sizes=("1x32", "2x64", "2x128"),
        rate_scaling="sqrt_width",
        bits=(32, 8, 6, 4, 3, 2),
        sparsities=(0.0,),
        compression=CompressConfig(granularity="row", range="mse"),
    )
