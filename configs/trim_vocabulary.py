"""The vocabulary of what a model is used for: the rows of all tokens that the training data do not use leave
the embedding, and the tokenizer is trimmed to the others. The weights that stay become 8-bit codes, one range
a row.

    python -m tlc_jax.compress RUN --config trim_vocabulary --out DIR
    python -m tlc_jax.compress RUN --config trim_vocabulary --bits 4 --calibration-text texts.txt --out DIR

Texts of the training data, or of the file, have the same tokens as before; other words become smaller pieces.

Cost: no training; seconds to count the tokens.
"""

from tlc_jax.compression.methods.trim_vocabulary import TrimVocabulary
from tlc_jax.config import CompressConfig


def get_config() -> CompressConfig:
    return CompressConfig(bits=8, granularity="row", matrices_only=True, steps=(TrimVocabulary(),))
