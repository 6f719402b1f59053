"""Reads an encoder from a folder that Hugging Face's transformers wrote: config.json and safetensors files.

A folder is of the encoder alone, whose tensors then have no prefix, or of a class with a head. Which of our
parts it holds, such as a pooler, is known before a tensor is read. Anybody may have written it
(docs/security.md): its shapes are compared with its config.json by the caller, who knows the network.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tlc_jax.artifacts.checkpoint_folder import CheckpointFolder
from tlc_jax.artifacts.encoder_config import class_name, label_names, model_config
from tlc_jax.artifacts.model_folder import Names, transposed
from tlc_jax.config import ModelConfig
from tlc_jax.core.errors import UserError
from tlc_jax.core.printable import first_of
from tlc_jax.core.schema import checked
from tlc_jax.core.stacked import join
from tlc_jax.core.tree import Params
from tlc_jax.storage.untrusted import file_inside, one_reason, read_json

_CONFIG = "config.json"
_BUFFERS = re.compile(r".*\.embeddings\.(position_ids|token_type_ids)")  # constants that older versions wrote
# of an output matrix that is the embedding, and a bias that stands in for no other: nothing reads them
_COPIES = re.compile(r"(lm_head|cls\.predictions)\.(decoder\.(weight|bias)|bias)|vocab_projector\.weight")
# names that BERT's first checkpoints have for the parts of a norm
_OLDER = {".gamma": ".weight", ".beta": ".bias"}


@dataclass(frozen=True)
class EncoderFolder:
    """What a folder holds of an encoder."""

    folder: CheckpointFolder
    config: ModelConfig
    class_name: str
    """The class of transformers that wrote it."""
    label_names: tuple[str, ...]
    """Those of a classification head."""
    stored: Mapping[str, str]
    """{our tensor: its name in the files}."""
    one_type: str | None
    """A table of token types with one row, which every token has: it is added to the positions."""
    left_out: tuple[str, ...]
    """Tensors in the files that are of no part here, such as the head of another task."""

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts that are there, such as ("encoder", "pooler")."""
        return tuple(dict.fromkeys(ours.partition("/")[0] for ours in self.stored))

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each of our tensors, without reading it."""
        shapes = {ours: self.folder.shape(theirs) for ours, theirs in self.stored.items()}
        return {ours: x[::-1] if ours.endswith("/kernel") else x for ours, x in shapes.items()}

    def params(self) -> Params:
        """Float32 parameters on the host. UserError where one is not finite."""
        tensors = {ours: transposed(ours, self._read(theirs)) for ours, theirs in self.stored.items()}
        if self.one_type is not None:
            positions = tensors["encoder/position_embedding"]
            tensors["encoder/position_embedding"] = positions + self._read(self.one_type)[:1]
        return join(tensors)

    def _read(self, name: str) -> np.ndarray:
        x = self.folder[name]
        if not np.isfinite(x).all():
            raise UserError(
                f"{name} in {self.folder.folder} has values that are not finite: give an undamaged checkpoint"
            )
        return x


def open_encoder_folder(path: Path, naming: Callable[[ModelConfig], Names]) -> EncoderFolder:
    """The encoder in a folder; `naming` gives the names of the tensors of a configuration. UserError where it
    is another model, or not whole."""
    about = _read_config(path)
    try:
        config = model_config(about)
        kind = class_name(about)
    except (ValueError, TypeError) as error:
        raise UserError(f"{path / _CONFIG} cannot be used: {error}") from error
    folder, names = CheckpointFolder(path), naming(config)
    prefix = names["encoder/token_embedding"].partition(".")[0]
    there = _by_their_names(folder, prefix)
    parts: dict[str, dict[str, str]] = {}
    for ours, theirs in names.items():
        parts.setdefault(ours.partition("/")[0], {})[ours] = theirs
    if missing := [name for name in parts["encoder"].values() if name not in there]:
        raise UserError(
            f"{path} is not whole: its {config.num_layers} layers and tables have {len(parts['encoder'])} "
            f"tensors, and missing are {first_of(missing)}"
        )
    whole = {part: each for part, each in parts.items() if _is_whole(part, each, there, kind)}
    stored = {ours: there[theirs] for each in whole.values() for ours, theirs in each.items()}
    if wrong := [name for name in stored.values() if not folder.is_float(name)]:
        raise UserError(f"{path} has weights that are not floats: {first_of(wrong)}")
    table = names["encoder/position_embedding"].replace("position_embeddings", "token_type_embeddings")
    one_type = None if config.token_types else there.get(table)
    left_out = tuple(
        name
        for name, at in there.items()
        if at not in (*stored.values(), one_type)
        and not _BUFFERS.fullmatch(name)
        and not _COPIES.fullmatch(name)
    )
    _check_known(path, config, prefix, left_out)
    if one_type is not None:
        _check_one_type(folder, one_type, config.hidden_size)
    labels: tuple[str, ...] = ()
    if (output := stored.get("classification_head/output/bias")) is not None:
        if len(shape := folder.shape(output)) != 1:
            raise UserError(
                f"{output} in {path} is {list(shape)}, but must be one number for each label: restore a "
                "whole copy of the folder"
            )
        labels = label_names(about, shape[0])
    return EncoderFolder(folder, config, kind, labels, stored, one_type, left_out)


def _check_one_type(folder: CheckpointFolder, name: str, hidden_size: int) -> None:
    """UserError where the row that is added to the positions is none of floats."""
    if not folder.is_float(name):
        raise UserError(f"{folder.folder} has weights that are not floats: {name}")
    if (shape := folder.shape(name)) != (1, hidden_size):
        raise UserError(
            f"{name} in {folder.folder} is {list(shape)}, but {[1, hidden_size]} by its config.json: "
            "restore a whole copy of the folder"
        )


def _read_config(path: Path) -> dict[str, Any]:
    if not os.path.lexists(path / _CONFIG):
        raise UserError(f"{path} is not a folder with a model of transformers: it has no {_CONFIG}")
    try:
        return checked(read_json(file_inside(path, _CONFIG)), dict[str, Any])
    except (OSError, ValueError) as error:
        raise UserError(f"{path / _CONFIG} cannot be read ({one_reason(error)}): replace it") from error


def _by_their_names(folder: CheckpointFolder, prefix: str) -> dict[str, str]:
    """{name of the tensor in a class with a head: its name in the files}."""
    alone = any(name.startswith("embeddings.") for name in folder)
    there: dict[str, str] = {}
    for stored in folder:
        name = f"{prefix}.{stored}" if alone else stored
        for older, newer in _OLDER.items():
            name = f"{name.removesuffix(older)}{newer}" if name.endswith(older) else name
        if name in there:
            raise UserError(f"{folder.folder} has {name} twice, as {there[name]} and {stored}: remove one")
        there[name] = stored
    return there


def _is_whole(part: str, names: Mapping[str, str], there: Mapping[str, str], kind: str) -> bool:
    """Whether a part is there with all of its tensors. The classifier of single tokens has the names of that
    of texts."""
    of_texts = part != "classification_head" or kind.endswith("ForSequenceClassification")
    return of_texts and all(name in there for name in names.values())


def _check_known(path: Path, config: ModelConfig, prefix: str, left_out: tuple[str, ...]) -> None:
    """UserError where a tensor is left out that changes hidden states: only heads and poolers may be."""
    inside = tuple(f"{prefix}.{name}." for name in ("encoder", "transformer", "embeddings"))
    if unknown := [name for name in left_out if name.startswith(inside)]:
        raise UserError(f"{path} has tensors that no {config.architecture} has here: {first_of(unknown)}")
