"""Items of a study that ask the compiler how much memory an update needs (paper, appendix C)."""

from __future__ import annotations

from tlc_jax.core import tree
from tlc_jax.runs.update_memory import update_memory
from tlc_jax.studies.item_store import Result, Row
from tlc_jax.studies.items import Item
from tlc_jax.studies.made import made
from tlc_jax.studies.study_folder import StudyFolder
from tlc_jax.tasks.kinds import kind_of
from tlc_jax.training.state import abstract_params


def memory_item(item: Item, study: StudyFolder) -> Result:
    """Compile an update of the network of an item for the devices at hand."""
    config = study.config.memory_config(str(item.fields["network"]), str(item.fields["variant"]))
    study.console.print(f"{item.name}: compiling an update")
    model = config.model
    about: Row = {
        "layers": f"{model.num_layers}x{model.hidden_size}",
        "batch_size": config.batch_size,
        "sequence_length": config.data.sequence_length,
        "vocab_size": model.vocab_size,
        "compute_dtype": model.compute_dtype,
        "remat": model.remat,
        "parameter_count": tree.count(abstract_params(kind_of(config).objective(config))),
    }
    rows: list[Row] = [
        {**about, "metric": name, "value": value} for name, value in update_memory(config).items()
    ]
    return Result(item=item.name, stage=item.stage, fields=item.fields, rows=rows, made=made())
