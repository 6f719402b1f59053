"""CoLA, a task of GLUE, as TFDS prepares it: sentences, acceptable or not (Warstadt et al. 2019). Seven of
ten are acceptable, so GLUE measures the Matthews correlation."""

from __future__ import annotations

from tlc_jax.data.labelled.tfds_labelled import tfds_data_set

COLA = tfds_data_set(
    "glue/cola", fields=("sentence",), reported=("validation",), unlabelled=("test",), metric="matthews"
)
