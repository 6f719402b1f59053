"""What a text says of an encoder in a folder that transformers wrote: the inputs of its matrices, and how far
its hidden states move when tensors change. Both go by the names of the folder's tensors.

The whole encoder is in memory for that, unlike where a folder is compressed without a text."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from rich.console import Console

from tlc_jax.artifacts.encoder_folder import EncoderFolder, open_encoder_folder
from tlc_jax.artifacts.model_folder import transposed
from tlc_jax.compression.input_statistics import InputStatistics, Statistics
from tlc_jax.core.stacked import join
from tlc_jax.core.tree import Params
from tlc_jax.models.encoder import encode
from tlc_jax.models.families import ENCODER
from tlc_jax.recipes.calibration import Calibration
from tlc_jax.recipes.calibration_corpus import ROWS, encoder_corpus, text_batches
from tlc_jax.recipes.sensitivity import EXAMPLES, Damage, squared_error
from tlc_jax.runs.begin_from_folder import SCHEME, InitFromFolder
from tlc_jax.storage.untrusted import file_inside
from tlc_jax.tasks.base import Batch


@dataclass(frozen=True)
class FolderOnText:
    """Statistics of the inputs of a folder's matrices, and the damage of tensors in place of its own: the
    squared change of the last hidden states as a share of their squares, over 128 texts. Tensors on which
    these do not depend, such as those of a pooler or a head, count by their own squared change, as a share of
    all their squares."""

    inputs: Statistics
    damage: Damage


def folder_on_text(
    folder: Path, file: str, tensors: Mapping[str, Any], floats: list[str], console: Console
) -> FolderOnText:
    """The encoder in a folder of these tensors, some of them `floats`, on the lines of a file. UserError
    where the folder holds no encoder that this program knows, or is not whole."""
    InitFromFolder(f"{SCHEME}{folder}").check()
    encoder = open_encoder_folder(folder, ENCODER.huggingface_names)
    tokenizer, config = file_inside(folder, "tokenizer.json"), encoder.config
    batches = lambda: text_batches(tokenizer, config, file)  # noqa: E731
    calibration = Calibration(encoder_corpus(config, encoder.params(), batches), console)
    states = _HiddenStates(encoder, list(itertools.islice(batches(), EXAMPLES // ROWS)))
    others = squared_error(tensors, [name for name in floats if name not in states.names])

    def damage(changed: Mapping[str, Any]) -> float:
        return states(changed) + others(changed)

    return FolderOnText(_Renamed(calibration, encoder.stored), damage)


class _Renamed(Mapping[str, InputStatistics]):
    """Statistics by the names of the files."""

    def __init__(self, statistics: Statistics, stored: Mapping[str, str]):
        self._statistics = statistics
        self._ours = {theirs: ours for ours, theirs in stored.items() if ours in statistics}

    def __getitem__(self, name: str) -> InputStatistics:
        return self._statistics[self._ours[name]]

    def __iter__(self) -> Iterator[str]:
        return iter(self._ours)

    def __len__(self) -> int:
        return len(self._ours)


class _HiddenStates:
    """The damage of tensors of an encoder, by those of its last layer at real tokens."""

    def __init__(self, encoder: EncoderFolder, batches: list[Batch]):
        config = encoder.config
        self._stored = {ours: name for ours, name in encoder.stored.items() if ours.startswith("encoder/")}
        self._one_type = encoder.one_type
        self.names = {*self._stored.values(), *([self._one_type] if self._one_type else [])}
        self._tensors = {name: encoder.folder[name] for name in self.names}
        hidden = jax.jit(lambda params, tokens: encode(config, params, tokens))

        def sums(
            params: Params, tokens: Array, before: Float[Array, "batch length hidden"]
        ) -> tuple[Array, Array]:
            real = (tokens != config.pad_id)[:, :, None]
            change = jnp.where(real, hidden(params, tokens) - before, 0.0)
            return jnp.sum(change**2), jnp.sum(jnp.where(real, before, 0.0) ** 2)

        self._sums, params = jax.jit(sums), self._params({})
        self._batches = [(batch["tokens"], hidden(params, batch["tokens"])) for batch in batches]

    def __call__(self, changed: Mapping[str, Any]) -> float:
        if not self.names & changed.keys():
            return 0.0
        params = self._params(changed)
        pairs = [self._sums(params, *batch) for batch in self._batches]
        change, whole = (sum(float(pair[i]) for pair in pairs) for i in (0, 1))
        return change / (whole or 1.0)

    def _params(self, changed: Mapping[str, Any]) -> Params:
        """Ours, with these tensors in place of the folder's."""
        there = {**self._tensors, **{name: np.asarray(changed[name]) for name in self.names & changed.keys()}}
        tensors = {ours: transposed(ours, there[name]) for ours, name in self._stored.items()}
        if self._one_type is not None:
            tensors["encoder/position_embedding"] = (
                tensors["encoder/position_embedding"] + there[self._one_type][:1]
            )
        return jax.device_put(join(tensors))
