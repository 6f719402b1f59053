"""Classifies texts: a label and probabilities for each."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import jax
import numpy as np
from jaxtyping import Float
from rich.console import Console

from tlc_jax.config import ModelConfig
from tlc_jax.core.errors import UserError
from tlc_jax.core.tree import Params
from tlc_jax.data.labelled.example_rows import EncodedRow, encode_examples
from tlc_jax.data.lossless import normalizer_of
from tlc_jax.data.recorded_roles import check_pad
from tlc_jax.data.tokenizer import encoder_tokenizer
from tlc_jax.inference.predictions import softmax
from tlc_jax.parallel.mesh import batch_sharding, local_rows, place, replicated
from tlc_jax.runs.load import TrainedModel
from tlc_jax.tasks.base import Batch
from tlc_jax.tasks.kinds import kind_of

_TOKENS = 8192  # of a batch, pads included
_MOST_ROWS, _FEW_ROWS = 128, 8

Texts = tuple[str, ...]
"""A text, or a pair of texts."""


@dataclass(frozen=True)
class Prediction:
    """What a classifier predicts for a text: the probability of each label, and the most probable one. For a
    text without characters they are NaN and None; the label is None too where two are equally probable."""

    label: str | None
    probabilities: dict[str, float]
    truncated: bool = False
    """Whether the text was longer than what the model reads."""

    @property
    def probability(self) -> float:
        """That of the label; NaN where there is none."""
        return math.nan if self.label is None else self.probabilities[self.label]


class Classifier:
    """A classification model, ready to predict texts of any length; it compiles three shapes at most."""

    def __init__(self, model: TrainedModel, console: Console):
        if not model.label_names:
            raise UserError(f"{model.rundir.root} is no classifier: it was trained on another task")
        config, kind = model.config, kind_of(model.config)
        path, size = model.rundir.tokenizer, config.model.vocab_size
        self._tokenizer, self._roles, _ = encoder_tokenizer(path, size, lossless=False, exact=False)
        check_pad(self._roles, cast(ModelConfig, config.model).pad_id, f"the tokenizer {path}")
        if kinds := normalizer_of(self._tokenizer):
            console.print(f"note: the model's tokenizer changes text before it is classified ({kinds})")
        self.label_names, self._longest = model.label_names, config.data.sequence_length
        self._mesh, self._params = model.mesh, model.params
        objective = kind.objective(config, len(model.label_names))

        def logits(params: Params, batch: Batch) -> jax.Array:
            return objective.logits(params, batch)

        self._logits = jax.jit(
            logits,
            in_shardings=(replicated(self._mesh), batch_sharding(self._mesh)),
            out_shardings=replicated(self._mesh),  # every process reads all
        )

    def __call__(
        self, texts: Sequence[Texts], advance: Callable[[int], None] = lambda count: None
    ) -> list[Prediction]:
        """The prediction for each text or pair of texts; all are of one kind. `advance` is called with the
        number of further texts that are done."""
        rows = list(encode_examples(texts, self._tokenizer, self._roles, self._longest))
        probabilities = softmax(self._logits_of(rows, advance))
        return [
            self._prediction(each, row.truncated, blank=not any(map(str.strip, text)))
            for each, row, text in zip(probabilities, rows, texts, strict=True)
        ]

    def _logits_of(
        self, rows: list[EncodedRow], advance: Callable[[int], None]
    ) -> Float[np.ndarray, "texts classes"]:
        results = np.full((len(rows), len(self.label_names)), np.nan, np.float32)
        order = sorted(range(len(rows)), key=lambda i: -len(rows[i].ids))
        while order:  # the longest first
            size, length = self._shape(len(order), len(rows[order[0]].ids))
            chosen, order = order[:size], order[size:]
            batch = self._batch([rows[i] for i in chosen], size, length)
            results[chosen] = np.asarray(self._logits(self._params, batch))[: len(chosen)]
            advance(len(chosen))
        return results

    def _batch(self, rows: list[EncodedRow], size: int, length: int) -> Batch:
        tokens, types = np.full((size, length), self._roles.pad, np.int32), np.zeros((size, length), np.int32)
        for i, row in enumerate(rows):
            tokens[i, : len(row.ids)] = row.ids
            if row.types is not None:
                types[i, : len(row.types)] = row.types
        typed = any(row.types is not None for row in rows)  # all rows or none
        arrays = {"tokens": tokens, **({"token_types": types} if typed else {})}
        local = local_rows(self._mesh, size)
        return place(self._mesh, {name: array[local] for name, array in arrays.items()})

    def _shape(self, count: int, longest: int) -> tuple[int, int]:
        """Rows and length of the next batch, one of three shapes: for few texts, short ones, and any."""
        length = self._longest
        if count > _FEW_ROWS and longest <= (short := -(-length // 32) * 8):
            length = short
        rows = min(_MOST_ROWS, max(_FEW_ROWS, _TOKENS // length)) if count > _FEW_ROWS else _FEW_ROWS
        return -(-rows // self._mesh.size) * self._mesh.size, length

    def _prediction(
        self, probabilities: Float[np.ndarray, "classes"], truncated: bool, blank: bool
    ) -> Prediction:
        if blank:
            return Prediction(None, dict.fromkeys(self.label_names, math.nan))
        best = probabilities == probabilities.max()
        label = self.label_names[int(best.argmax())] if best.sum() == 1 else None
        named = zip(self.label_names, probabilities.tolist(), strict=True)
        return Prediction(label, dict(named), truncated)
