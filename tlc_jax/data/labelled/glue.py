"""Tasks of GLUE (Wang et al. 2019) as TFDS prepares them."""

from __future__ import annotations

from tlc_jax.data.labelled.tfds_labelled import tfds_data_set

SST2 = tfds_data_set("glue/sst2", fields=("sentence",), reported=("validation",), unlabelled=("test",))
MNLI = tfds_data_set(
    "glue/mnli",
    fields=("premise", "hypothesis"),
    reported=("validation_matched", "validation_mismatched"),
    unlabelled=("test_matched", "test_mismatched"),
)
