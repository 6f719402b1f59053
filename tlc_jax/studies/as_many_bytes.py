"""Models of as many bytes: which of two may be called the better one for its bytes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from tlc_jax.tasks.metric import Metric

KILOBYTE = 1000
_AS_MANY = 1.01
"""Files of equally many weights differ by their headers."""

Model = TypeVar("Model")
Number = Callable[[Model], float]


def no_larger(one: float, other: float) -> bool:
    """Whether a model of the bytes `one` has no more than one of the bytes `other`, to 1 %. Only then does it
    say something for the first that it is the better one."""
    return one <= _AS_MANY * other


def frontier(
    models: Sequence[Model], metric: Metric, tuning: Number[Model], file_bytes: Number[Model]
) -> list[Model]:
    """The best model for each number of bytes: each is better on the tuning set than all smaller ones."""
    best: list[Model] = []
    for model in sorted(models, key=file_bytes):
        if not best or metric.better(tuning(model), tuning(best[-1])):
            best.append(model)
    return best


def best_within(
    limit: float, models: Sequence[Model], metric: Metric, tuning: Number[Model], file_bytes: Number[Model]
) -> Model | None:
    """The best on the tuning set of the models that are no larger; None where none is."""
    fitting = [model for model in models if no_larger(file_bytes(model), limit)]
    return metric.best(fitting, tuning) if fitting else None


def kilobytes(number: float) -> str:
    """A number of bytes in words, such as 845 kB."""
    thousands = number / KILOBYTE
    return f"{thousands:,.0f} kB" if thousands >= 10 else f"{thousands:.2g} kB"
