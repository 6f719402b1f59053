"""Statistics of the inputs of a trained model's matrices, over training data or a text that the user names:
nothing that is reported, nor tuned on."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console

from tlc_jax.compression.input_statistics import InputStatistics, Statistics
from tlc_jax.compression.steps import Needs, Recipe
from tlc_jax.core import stopping
from tlc_jax.core.errors import UserError
from tlc_jax.core.progress import stage
from tlc_jax.core.stacked import module_class
from tlc_jax.core.tree import Params, flatten
from tlc_jax.models.families import family_of
from tlc_jax.models.linear_inputs import Sum, input_sums, use_sums
from tlc_jax.recipes.calibration_corpus import Corpus, text_corpus, training_corpus
from tlc_jax.recipes.tuning_evaluator import task_of
from tlc_jax.runs.load import TrainedModel
from tlc_jax.tasks.base import Batch

TOKENS = 65_536
"""Tokens that statistics are over: 128 rows of 512 (GPTQ, SparseGPT and Wanda take 128 rows of 2,048)."""
UNREAD_TEXT = "no step of the recipe reads --calibration-text: omit it"
_BYTES = 1 << 30  # of second moments that are held at once


def calibrated(recipe: Recipe) -> bool:
    """Whether a step of the recipe needs calibration data."""
    return any(step.needs is Needs.CALIBRATION for step in recipe)


def calibrate(
    model: TrainedModel, recipe: Recipe, console: Console, text: str | None = None
) -> Statistics | None:
    """The statistics for a recipe, or None where no step needs any. UserError where they cannot be had."""
    if not calibrated(recipe):
        return None
    if (statistics := statistics_of(model, console, text)) is None:
        family = family_of(model.config.model).name
        steps = ", ".join(type(step).__name__ for step in recipe if step.needs is Needs.CALIBRATION)
        raise UserError(
            f"the family {family} does not say what the inputs of its matrices are: leave {steps} out of the "
            "recipe"
        )
    return statistics


def statistics_of(model: TrainedModel, console: Console, text: str | None = None) -> Statistics | None:
    """The statistics over the lines of a `text` or the training data; None where the model's family does not
    say what the inputs of its matrices are. UserError where the model has no data."""
    corpus = training_corpus(task_of(model), model) if text is None else text_corpus(model, text)
    return None if corpus is None else Calibration(corpus, console)


class Calibration(Mapping[str, InputStatistics]):
    """Statistics that are computed when they are asked for: those of as many parameters at once as fit into
    1 GiB, of one at least, and only the latest of these are held."""

    def __init__(self, corpus: Corpus, console: Console, tokens: int = TOKENS):
        self._corpus, self._console, self._tokens = corpus, console, tokens
        self._params = jax.device_put(jax.device_get(corpus.params))  # one device is enough
        paths = [path for path, x in flatten(self._params).items() if x.ndim >= 2]
        sums = jax.eval_shape(self._sums(paths), self._params, next(self._batches()))
        self._group_of = {name: group for group in _groups(sums) for name in group}
        self._held: dict[str, InputStatistics] = {}

    def __getitem__(self, name: str) -> InputStatistics:
        group = self._group_of[name]  # of a vector there are none, and what is held stays
        if name not in self._held:
            self._held = {}  # before others take its place
            self._held = self._measured(group)
        return self._held[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._group_of)

    def __len__(self) -> int:
        return len(self._group_of)

    def _measured(self, names: tuple[str, ...]) -> dict[str, InputStatistics]:
        """The statistics of these tensors, summed up in float64."""
        add = jax.jit(self._sums(module_class(name) for name in names))
        sums = dict[str, list[tuple[Any, Any]]]()
        with stage(self._console, "calibrating", self._tokens, "tokens", only_long=True) as advance:
            for batch in self._batches():
                stopping.check()
                for name, pairs in jax.device_get(add(self._params, batch)).items():
                    before = sums.get(name) or [(0.0, 0.0)] * len(pairs)
                    sums[name] = [_plus(*both) for both in zip(before, pairs, strict=True)]
                advance(_count(self._corpus, batch))
        return {name: _statistics(*pairs) for name, pairs in sums.items()}

    def _sums(self, paths: Iterable[str]) -> Callable[[Params, Batch], dict[str, tuple[Sum, Sum]]]:
        """A function (parameters, batch) -> of each tensor at these paths the sums of its inputs and of its
        uses; 0 of 0 where it has none."""
        corpus, wanted = self._corpus, frozenset(paths)
        rules, config, read = corpus.rules, corpus.config, wanted - corpus.unread

        def add(params: Params, batch: Batch) -> dict[str, tuple[Sum, Sum]]:
            moments = input_sums(rules, config, params, lambda: corpus.compute(params, batch), batch, read)
            uses = use_sums(rules, config, params, batch, wanted)
            nothing = jnp.zeros(()), jnp.zeros(())
            return {n: (moments.get(n, nothing), uses.get(n, nothing)) for n in sorted({*moments, *uses})}

        return add

    def _batches(self) -> Iterator[Batch]:
        """The first batches with so many tokens."""
        counted = 0
        for batch in self._corpus.batches():
            if counted >= self._tokens:
                return
            yield batch
            counted += _count(self._corpus, batch)


def _count(corpus: Corpus, batch: Batch) -> int:
    """The tokens of a batch that look up a table."""
    lookups = corpus.rules.lookups(corpus.config, batch).values()
    return int(max(jnp.sum(weights) for _, weights in lookups))


def _plus(before: tuple[Any, Any], sums: tuple[Any, Any]) -> tuple[Any, Any]:
    return before[0] + np.asarray(sums[0], np.float64), before[1] + float(sums[1])


def _statistics(moment: tuple[Any, Any], uses: tuple[Any, Any]) -> InputStatistics:
    return InputStatistics(
        *(total / max(count, 1.0) if np.ndim(total) else None for total, count in (moment, uses))
    )


def _groups(sums: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """The names, those of one parameter together, and as many parameters as fit."""
    parameters: dict[str, list[str]] = {}
    for name in sums:
        parameters.setdefault(module_class(name), []).append(name)
    groups: list[list[str]] = []
    room = 0
    for names in parameters.values():
        size = sum(8 * math.prod(total.shape) for name in names for total, _ in sums[name])
        if not groups or size > room:
            groups, room = [*groups, []], _BYTES
        groups[-1] += names
        room -= size
    return [tuple(group) for group in groups]
