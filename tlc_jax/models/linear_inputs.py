"""The inputs of all matrices of a model, summed up while it computes: second moments and numbers of uses
(compression/input_statistics.py says what for).

A network knows next to nothing of this: calls of its linear layers are intercepted, and the sums leave the
scan over layers as one of its collections (`RECORDED` in layers.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from tlc_jax.core.stacked import tensor_names
from tlc_jax.core.tree import Params, flatten
from tlc_jax.models.layers import RECORDED, recording

Batch = Mapping[str, jax.Array]
Uses = tuple[Int[Array, "..."], Float[Array, "..."]]
"""(the rows of a table that tokens use, 1 for each token that counts and 0 for pads)."""
Sum = tuple[jax.Array, jax.Array]
"""(the sum over inputs of x x^T, or of one-hot rows; the number of inputs)."""
_MOMENT, _COUNT = "moment", "count"


@dataclass(frozen=True)
class InputRules:
    """What a model family says of the inputs of its matrices."""

    counted: Callable[[Any, str, Batch], Array]
    """(config, path of a matrix in its module, batch) -> 1 for inputs that count, 0 for pads; it has all axes
    of the inputs but the last."""
    output: Callable[[Any], tuple[str, str]]
    """config -> (the norm whose result the output matrix multiplies, the path of that matrix)."""
    lookups: Callable[[Any, Batch], dict[str, Uses]]
    """(config, batch) -> the uses of each table, by its path."""


def input_sums(
    rules: InputRules,
    config: Any,
    params: Params,
    compute: Callable[[], Any],
    batch: Batch,
    paths: frozenset[str],
) -> dict[str, Sum]:
    """The sums of the inputs of tensors (core/stacked.py) over a batch, while `compute` applies the model to
    it; of those parameters at `paths` that have any. Layers that share parameters add up."""
    norm, matrix = rules.output(config)
    stack = ""  # the path of the layers that are computed now

    def record(proceed: Callable[..., Any], args: Any, how: Any, context: Any) -> Any:
        nonlocal stack
        module, path = context.module, "/".join(context.module.path)
        if context.method_name != "__call__":
            return proceed(*args, **how)
        if module.name == "layers":
            stack = path
            result = proceed(*args, **how)
            stack = ""
            return result
        if not path.startswith(stack):  # of layers that share parameters, which are applied by themselves
            path = f"{stack}/{path}"
        if isinstance(module, nn.Dense) and f"{path}/kernel" in paths:
            _add(module, args[0], rules.counted(config, f"{path}/kernel", batch))
        result = proceed(*args, **how)
        if path == norm and matrix in paths:
            _add(module, result, rules.counted(config, norm, batch))
        return result

    with nn.intercept_methods(record), recording() as recorded:
        compute()
    sums = flatten(recorded)
    by_tensor: dict[str, Sum] = {}
    for key in (key for key in sums if key.endswith(f"/{_MOMENT}")):
        module = key.removesuffix(f"/{_MOMENT}")
        path = matrix if module == norm else f"{module}/kernel"
        by_tensor |= dict(_by_tensor(path, _at(params, path), sums[key], sums[f"{module}/{_COUNT}"]))
    return by_tensor


def use_sums(
    rules: InputRules, config: Any, params: Params, batch: Batch, paths: Iterable[str]
) -> dict[str, Sum]:
    """How often each row of the tables at `paths` is used, over a batch."""
    sums = {}
    for name, (rows, weights) in rules.lookups(config, batch).items():
        if name in paths:
            size = _at(params, name).shape[0]
            rows, weights = jnp.broadcast_to(rows, weights.shape).reshape(-1), weights.reshape(-1)
            sums[name] = jnp.zeros(size).at[rows].add(weights), jnp.sum(weights)
    return sums


def _add(module: nn.Module, x: Array, counted: Array) -> None:
    """Add the inputs of a module to what it has recorded."""
    weights = counted.astype(jnp.float32).reshape(-1)
    x = x.reshape(-1, x.shape[-1]).astype(jnp.float32)
    moment = jnp.einsum("ni,n,nj->ij", x, weights, x, precision=jax.lax.Precision.HIGHEST)
    for name, value in ((_MOMENT, moment), (_COUNT, jnp.sum(weights))):
        module.sow(
            RECORDED, name, value, reduce_fn=jnp.add, init_fn=lambda value=value: jnp.zeros_like(value)
        )


def _by_tensor(path: str, x: Array, moment: Array, count: Array) -> Iterator[tuple[str, Sum]]:
    """The sums of a parameter `x`, which are stacked if it is, as those of its tensors."""
    names = tensor_names(path, x)
    if names == [path]:
        yield path, (moment, count)
    elif len(names) == 1:  # shared by all layers
        yield names[0], (jnp.sum(moment, axis=0), jnp.sum(count))
    else:
        yield from ((name, (moment[i], count[i])) for i, name in enumerate(names))


def _at(params: Params, path: str) -> Any:
    node: Any = params
    for key in path.split("/"):
        node = node[key]
    return node
