"""The exhibits of a study. A new one is a file of its own, and an entry here."""

from __future__ import annotations

from tlc_jax.studies.exhibits.batch_sizes import BATCH_SIZES
from tlc_jax.studies.exhibits.best_size import BEST_SIZE
from tlc_jax.studies.exhibits.data_share import DATA_SHARE
from tlc_jax.studies.exhibits.equal_bytes import EQUAL_BYTES
from tlc_jax.studies.exhibits.equal_time import EQUAL_TIME
from tlc_jax.studies.exhibits.errors_by_module import PRUNING_ERROR, QUANTIZATION_ERROR
from tlc_jax.studies.exhibits.exhibit import Exhibit
from tlc_jax.studies.exhibits.finetuned_sizes import FINETUNED_SIZES
from tlc_jax.studies.exhibits.finetuning_search import FINETUNING_SEARCH
from tlc_jax.studies.exhibits.learning_curves import LEARNING_CURVES
from tlc_jax.studies.exhibits.schedules import SCHEDULES

EXHIBITS: tuple[Exhibit, ...] = (
    EQUAL_TIME,
    BEST_SIZE,
    EQUAL_BYTES,
    LEARNING_CURVES,
    BATCH_SIZES,
    DATA_SHARE,
    SCHEDULES,
    FINETUNED_SIZES,
    FINETUNING_SEARCH,
    QUANTIZATION_ERROR,
    PRUNING_ERROR,
)
