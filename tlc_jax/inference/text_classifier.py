"""Classifies new texts: a label and probabilities for each, in order, whatever the texts hold."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import jax
import numpy as np
from jaxtyping import Float, Integer
from rich.console import Console

from tlc_jax.core.errors import UserError
from tlc_jax.core.tree import Params
from tlc_jax.core.vocabulary import PAD
from tlc_jax.data.labelled.example_rows import encode_examples
from tlc_jax.data.lossless import normalizer_of
from tlc_jax.data.tokenizer import load_tokenizer
from tlc_jax.inference.line_stream import answer_stream
from tlc_jax.inference.predictions import softmax
from tlc_jax.parallel.mesh import batch_sharding, local_rows, place, replicated
from tlc_jax.runs.load import TrainedModel, load_model
from tlc_jax.tasks.kinds import kind_of

_TOKENS = 8192  # of a batch, pads included
_MOST_ROWS, _FEW_ROWS = 128, 8
_CUT = "were too long for the model and are judged by their beginning"
_BLANK = "have no text and get no label"

Texts = tuple[str, ...]
"""A text, or a pair of texts."""


@dataclass(frozen=True)
class Prediction:
    """What a classifier predicts for a text: the probability of each label, and the most probable one; None
    for a text without characters, and where two labels are equally probable."""

    label: str | None
    probabilities: dict[str, float]
    truncated: bool = False
    """Whether the text was longer than what the model reads."""


class Classifier:
    """A classification model, ready to predict texts of any length; it compiles three shapes at most."""

    def __init__(self, model: TrainedModel, console: Console):
        if not model.label_names:
            raise UserError(f"{model.rundir.root} is no classifier: it was trained on another task")
        config, kind = model.config, kind_of(model.config)
        self._tokenizer = load_tokenizer(
            model.rundir.tokenizer, config.model.vocab_size, kind.tokenizer_layout
        )
        if kinds := normalizer_of(self._tokenizer):
            console.print(f"note: the model's tokenizer changes text before it is classified ({kinds})")
        self.label_names, self._longest, self._mesh = (
            model.label_names,
            config.data.sequence_length,
            model.mesh,
        )
        self._params = model.params
        objective = kind.objective(config, len(model.label_names))

        def logits(params: Params, tokens: jax.Array) -> jax.Array:
            return objective.logits(params, {"tokens": tokens})

        self._logits = jax.jit(
            logits,
            in_shardings=(replicated(self._mesh), batch_sharding(self._mesh)),
            out_shardings=replicated(self._mesh),  # every process reads all
        )

    def __call__(self, texts: Sequence[Texts]) -> list[Prediction]:
        """The prediction for each text or pair of texts."""
        rows, truncated = encode_examples(texts, self._tokenizer, self._longest)
        probabilities = softmax(self._logits_of(rows))
        return [
            self._prediction(each, cut, blank=not any(map(str.strip, text)))
            for each, cut, text in zip(probabilities, truncated, texts, strict=True)
        ]

    def _logits_of(self, rows: list[Integer[np.ndarray, "_"]]) -> Float[np.ndarray, "texts classes"]:
        results = np.full((len(rows), len(self.label_names)), np.nan, np.float32)
        order = sorted(range(len(rows)), key=lambda i: -len(rows[i]))
        while order:  # the longest first
            size, length = self._shape(len(order), len(rows[order[0]]))
            chosen, order = order[:size], order[size:]
            tokens = np.full((size, length), PAD, np.int32)
            for i, row in enumerate(chosen):
                tokens[i, : len(rows[row])] = rows[row]
            batch = place(self._mesh, {"tokens": tokens[local_rows(self._mesh, size)]})
            results[chosen] = np.asarray(self._logits(self._params, batch["tokens"]))[: len(chosen)]
        return results

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
        best = probabilities == probabilities.max()
        decided = best.sum() == 1 and not blank
        label = self.label_names[int(best.argmax())] if decided else None
        named = zip(self.label_names, probabilities.tolist(), strict=True)
        return Prediction(label, dict(named), truncated)


def classify_stream(
    reference: str,
    lines: Iterable[bytes],
    write: Callable[[str], object],
    console: Console,
    *,
    pairs: bool,
    as_json: bool,
) -> None:
    """Write the label of every line of `lines`, and the probability of each class, with the model of a run, a
    mark, RUN@lastN or an artifact.

    Of `pairs`, a line holds two texts with a tab between them. The first line that is written names the
    columns, unless each line is `as_json` an object.
    """
    classify = Classifier(load_model(reference, warn=console.print), console)
    write_line = _json_line if as_json else _tsv_line
    if not as_json:
        write("\t".join(["label", *classify.label_names]) + "\n")

    def respond(first: int, window: list[str], counts: Counter[str]) -> Iterator[str]:
        texts = [_sides(line, number, pairs) for number, line in enumerate(window, first + 1)]
        for text, prediction in zip(texts, classify(texts), strict=True):
            counts[_CUT] += prediction.truncated
            counts[_BLANK] += not any(map(str.strip, text))
            yield write_line(prediction)

    answer_stream(lines, write, respond, console, "predicting", "predicted")


def _sides(line: str, number: int, pairs: bool) -> Texts:
    sides = tuple(line.split("\t")) if pairs else (line,)
    if pairs and len(sides) != 2:
        raise UserError(
            f"line {number:,} of standard input has {len(sides)} text(s) between tabs: with --pairs give two "
            "on each line"
        )
    return sides


def _tsv_line(prediction: Prediction) -> str:
    numbers = (f"{value:.6f}" for value in prediction.probabilities.values())
    return "\t".join([prediction.label or "", *numbers]) + "\n"


def _json_line(prediction: Prediction) -> str:
    rounded = {name: round(p, 6) if p == p else None for name, p in prediction.probabilities.items()}
    return json.dumps({"label": prediction.label, "probabilities": rounded}) + "\n"
