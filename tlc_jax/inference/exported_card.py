"""The card of an exported model (artifacts/model_card.py)."""

from __future__ import annotations

import dataclasses

from rich.console import Console

from tlc_jax.artifacts.artifact import WEIGHTS, is_artifact
from tlc_jax.artifacts.manifest import artifact_manifest
from tlc_jax.artifacts.model_card import ModelCard
from tlc_jax.artifacts.model_record import ModelRecord
from tlc_jax.artifacts.transformers_use import NUMPY, with_transformers
from tlc_jax.core.errors import UserError
from tlc_jax.inference.model_with_data import with_data
from tlc_jax.runs.card import card_of, card_of_folder
from tlc_jax.runs.load import TrainedModel
from tlc_jax.runs.primary_metric import primary_metric, recorded
from tlc_jax.runs.record_model import record_model
from tlc_jax.storage.paths import AnyPath, parse_path
from tlc_jax.storage.sealed import Damaged, read_manifest
from tlc_jax.storage.untrusted import size_of
from tlc_jax.tasks.kinds import kind_of

_PACKAGES = {"huggingface": "transformers", "compressed-tensors": "transformers and compressed-tensors"}
"""What loads a folder, by its format; of other formats the card does not say how to load them."""


def of_folder(root: str) -> bool:
    """Whether this is an artifact that was made from a folder of files. Nothing is checked here."""
    try:
        return is_artifact(parse_path(root)) and read_manifest(parse_path(root))["source"]["kind"] == "folder"
    except (Damaged, KeyError, TypeError):
        return False  # whoever reads the artifact says what is wrong with it


def exported_card(
    root: str, folder: AnyPath, kind: str, console: Console, model: TrainedModel | None
) -> ModelCard:
    """The card of the model of `root`, which was written to `folder` in the format `kind`. A run's model is
    evaluated on the data of its run; `model` is None for an artifact that was made from a folder."""
    manifest = artifact_manifest(parse_path(root), WEIGHTS) if is_artifact(parse_path(root)) else None
    size = size_of(folder / WEIGHTS) if (folder / WEIGHTS).is_file() else None
    if model is None:
        assert manifest is not None, root
        use = _code("In numpy", NUMPY) if kind == "huggingface" else ""
        card = card_of_folder(manifest)
        return dataclasses.replace(card, library=None, use=use, weights_bytes=size)
    record: ModelRecord = record_model(model, console)
    if manifest is None:
        record = {**record, **_metric(model, console)}  # type: ignore[typeddict-item]  # of one field
    library = "transformers" if kind in _PACKAGES else None
    use = _use(kind, model)
    return card_of(model, record, use, library=library, manifest=manifest, weights_bytes=size)


def _metric(model: TrainedModel, console: Console) -> dict[str, object]:
    try:
        data = with_data(model, console)
        measured = primary_metric(data.task, data.params, data.config.at_once, data.mesh)
        return {**recorded(measured, console)}
    except UserError as error:
        console.print(f"note: the model card has no metric: {error}", markup=False)
        return {}


def _use(kind: str, model: TrainedModel) -> str:
    code = with_transformers(kind_of(model.config).hub_task, model.texts_per_example)
    if kind not in _PACKAGES or code is None:
        return ""
    numpy = "\n\n" + _code("In numpy, as arrays", NUMPY) if kind == "huggingface" else ""
    return _code(f"With {_PACKAGES[kind]}", code) + numpy


def _code(what: str, code: str) -> str:
    return f"{what}, in this folder:\n\n```python\n{code}\n```"
