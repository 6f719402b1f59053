"""The smallest file that still classifies well: the tokens that the training data use, embeddings and layers
trained with rounded weights, with the model before compression as their teacher, coded with brotli.

    python -m tlc_jax.compress RUN --config smallest_classifier --workdir W --out DIR
    python -m tlc_jax.compress RUN --config smallest_classifier:thirtieth --workdir W --out DIR

RUN is a finetuned classification, such as one of `finetune_bert`. The first has 3 bits, and is meant for
a fifteenth of the float32 bytes of all-MiniLM-L6-v2 on SST-2 (90.9 MB). The second is pruned in rounds to a
quarter of the weights, too, for a thirtieth. Neither was run on it.

Cost: two epochs; the second, six.
"""

from typing import Literal

from tlc_jax.compression.methods.trim_vocabulary import TrimVocabulary
from tlc_jax.config.compression import CompressConfig, RecoveryConfig


def get_config(scale: Literal["fifteenth", "thirtieth"] = "fifteenth") -> CompressConfig:
    taught = RecoveryConfig(
        target=1.0,
        max_epochs=2.0,
        evaluate_every=250,
        distil_weight=0.5,
        quantization_aware=True,
        levels=(0.4, 0.6, 0.75),
    )
    return CompressConfig(
        bits=3,
        sparsity=0.75 if scale == "thirtieth" else 0.0,
        granularity="row" if scale == "thirtieth" else "group:64",
        range_dtype="bfloat16",
        matrices_only=True,
        recovery=taught,
        steps=(TrimVocabulary(),),
        coding="brotli",
    )
