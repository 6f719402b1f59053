"""Layers that share parameters: what it costs in training, and what it saves of the memory of an update
(appendix C, figure 11).

    python -m tlc_jax.study --config study_sharing --workdir W --train.data.dir TEXT --workers 2

TEXT is that of `study_pretrain`, and so is the training. Each size is trained with all parameters its own,
with attention shared by all layers, and with all parameters shared. The memory is that of an update of 12x768
with GPT-2's vocabulary at batch 32, from the compiler for the device at hand, with nothing, products or all
computed again in the backward pass; it is not trained.

The scale `mini` is for 2 CPU cores: 4x64, 400 seconds of one core for each of three seeds. Cost: 36 minutes
for two workers. `study_sharing:gpu` is for one GPU, by the clock: 12x256. Cost: 15 minutes a seed; not run
here. `study_sharing:paper`: 12x768, 1,000,000 seconds of the device each; not run here.
"""

from dataclasses import replace
from typing import Literal

from tlc_jax.config.study_options import StudyConfig
from tlc_jax.core.config_document import load_config

SIZES = {"mini": "4x64", "gpu": "12x256", "paper": "12x768"}
NETWORK = (
    "12x768,batch_size=32,model.vocab_size=50265,model.head_size=64,model.dropout=0.1,"
    "model.attention_dropout=0.1,model.remat="
)


def get_config(scale: Literal["mini", "gpu", "paper"] = "mini") -> StudyConfig:
    return replace(
        load_config(f"study_pretrain:{scale}", StudyConfig),
        sizes=(SIZES[scale],),
        variants=("", "model.shared_layers=attention", "model.shared_layers=all"),
        memory_of=tuple(f"{NETWORK}{remat}" for remat in ("none", "products", "all")),
        bits=(),
        sparsities=(),
        compressed_at=(),
    )
