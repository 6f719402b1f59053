"""The hidden states of all layers of a model, taken while it computes: no second pass is needed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from jaxtyping import Array, Float

from tlc_jax.core.tree import flatten
from tlc_jax.models.layers import HIDDEN, recording

Result = TypeVar("Result")
States = dict[str, Float[Array, "layers batch length hidden"]]
"""{path of stacked layers, such as encoder/layers: what each of them hands to the next}."""


def with_hidden_states(compute: Callable[[], Result]) -> tuple[Result, States]:
    """What `compute`, which applies one model, returns, and the hidden states behind each layer; before the
    last norm of pre-norm models."""
    with recording(hidden=True) as recorded:
        result = compute()
    ending = f"/{HIDDEN}"
    states = {path: x for path, x in flatten(recorded).items() if path.endswith(ending)}
    return result, {path.removesuffix(ending): x for path, x in states.items()}
