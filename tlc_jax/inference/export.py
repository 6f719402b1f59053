"""A trained model in formats that other programs load."""

from __future__ import annotations

import dataclasses

from rich.console import Console

from tlc_jax.artifacts.artifact import check_new, is_artifact
from tlc_jax.artifacts.huggingface import write_huggingface
from tlc_jax.compression.quantize import dequantize
from tlc_jax.config import ClassificationConfig, Config
from tlc_jax.core.place import Place, locate, new_folder
from tlc_jax.core.rundir import RunDir
from tlc_jax.core.stacked import join
from tlc_jax.core.tree import Params, count
from tlc_jax.inference.load import open_artifact
from tlc_jax.training.restore import trained_model


@dataclasses.dataclass(frozen=True)
class DenseModel:
    """Float32 parameters, those of an artifact dequantized; `label_names` are a classification's."""

    files: RunDir
    config: Config
    params: Params
    label_names: tuple[str, ...]


def dense_model(root: str, console: Console) -> DenseModel:
    """Of a run, of one of its marks (RUN@MARK) or of an artifact; needs no data."""
    place = locate(root)
    if is_artifact(place):
        artifact, config = open_artifact(place)
        names = tuple(artifact.manifest["label_names"])
        return DenseModel(RunDir(place), config, join(dequantize(artifact.tensors)), names)
    model = trained_model(root, console.print)
    return DenseModel(model.rundir, model.config, model.params, model.label_names)


def export_model(root: str, out: Place, kind: str, console: Console) -> None:
    """Writes the new folder `out` in a format of FORMATS."""
    check_new(out)
    with new_folder(out) as making:
        FORMATS[kind](root, making, console)
    console.print(f"written to {out}")


def _huggingface(root: str, folder: Place, console: Console) -> None:
    model = dense_model(root, console)
    config, head_dropout = model.config.model, 0.0
    if isinstance(task := model.config.task, ClassificationConfig):
        config = dataclasses.replace(config, dropout=task.dropout, attention_dropout=task.dropout)
        head_dropout = task.head_dropout
    tokenizer = model.files.tokenizer.read_bytes()
    write_huggingface(folder, model.params, config, tokenizer, model.label_names, head_dropout)
    console.print(f"{count(model.params):,} parameters as a RobertaPreLayerNorm of Hugging Face")


FORMATS = {"huggingface": _huggingface}
