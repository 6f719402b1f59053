"""WMT14 English to French with Tensor2Tensor's transformer_base_v3 (paper 2.1, figure 5): 6 layers, width
512.

    python -m tlc_jax.prepare wmt14_translate/fr-en --out DATA
    python -m tlc_jax.train --config translate --workdir W --data.dir DATA

These are 40.8 M pairs before cleaning. DATA may also be TFDS's folder with the prepared dataset. Adam 0.9,
0.997, 1e-9, Noam schedule with 8,000 updates of warm-up, label smoothing 0.1, dropout 0.1, 32,768 joint
byte-level BPE entries, about 32,000 tokens on the longer side an update (T2T: 8 x 4,096). Figure 5 of the
paper varies `--model.num-layers` (2, 6, 8) and `--model.hidden-size` (128 to 2048).

Cost: Vaswani et al. trained this size for 100,000 updates on 8 GPUs in 12 hours, and reached BLEU 38.1 on
newstest2014 (tokenized, compounds split). Not run here.
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
        model=EncoderDecoderConfig(),
        task=TranslationConfig(row_multiple=32, bleu_sentences=3000),
        data=PairsConfig(),
        optimizer=OptimizerConfig(learning_rate=2.0, beta2=0.997, epsilon=1e-9, weight_decay=0.0),
        schedule=ScheduleConfig(warmup=0.0, noam_steps=8000),
        budget=BudgetConfig(steps=100_000),
        evaluation=EvaluationConfig(every_steps=2000),
        checkpoint=CheckpointConfig(every_steps=1000, keep=5),
        batch_size=32_768,
        log_every=100,
    )
