"""The exhibits of a study. A new one is a file of its own, and an entry here."""

from __future__ import annotations

from tlc_jax.studies.exhibits.batch_sizes import BATCH_SIZES
from tlc_jax.studies.exhibits.best_size import BEST_SIZE
from tlc_jax.studies.exhibits.combined_losses import COMBINED_LOSSES
from tlc_jax.studies.exhibits.compression_losses import COMPRESSION_LOSSES
from tlc_jax.studies.exhibits.data_share import DATA_SHARE
from tlc_jax.studies.exhibits.equal_bytes import EQUAL_BYTES
from tlc_jax.studies.exhibits.equal_time import EQUAL_TIME
from tlc_jax.studies.exhibits.errors_by_module import PRUNING_ERROR, QUANTIZATION_ERROR
from tlc_jax.studies.exhibits.exhibit import Exhibit
from tlc_jax.studies.exhibits.finetuned_sizes import FINETUNED_SIZES
from tlc_jax.studies.exhibits.finetuning_search import FINETUNING_SEARCH
from tlc_jax.studies.exhibits.large_then_distil import LARGE_THEN_DISTIL
from tlc_jax.studies.exhibits.layer_sharing import LAYER_SHARING
from tlc_jax.studies.exhibits.learning_curves import LEARNING_CURVES
from tlc_jax.studies.exhibits.losses_after_updates import LOSSES_AFTER_UPDATES
from tlc_jax.studies.exhibits.memory_saved import MEMORY_SAVED
from tlc_jax.studies.exhibits.moderate_amounts import MODERATE_AMOUNTS
from tlc_jax.studies.exhibits.over_training import OVER_TRAINING
from tlc_jax.studies.exhibits.schedules import SCHEDULES
from tlc_jax.studies.exhibits.shapes import SHAPES

EXHIBITS: tuple[Exhibit, ...] = (
    EQUAL_TIME,
    BEST_SIZE,
    EQUAL_BYTES,
    COMPRESSION_LOSSES,
    LOSSES_AFTER_UPDATES,
    COMBINED_LOSSES,
    MODERATE_AMOUNTS,
    OVER_TRAINING,
    LEARNING_CURVES,
    SHAPES,
    BATCH_SIZES,
    DATA_SHARE,
    LAYER_SHARING,
    MEMORY_SAVED,
    SCHEDULES,
    FINETUNED_SIZES,
    FINETUNING_SEARCH,
    QUANTIZATION_ERROR,
    PRUNING_ERROR,
    LARGE_THEN_DISTIL,
)
