"""How far compressed weights are from the trained ones, and what the same matrices of all layers share of
that (paper 5.3, figure 9)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from tlc_jax.core import stopping
from tlc_jax.core.stacked import Tensors, module_class

_BLOCK = 1 << 20


@dataclass(frozen=True)
class TensorError:
    """Of one tensor w with n weights that became v: `absolute` is sum |v - w| / n, in the weights' own unit;
    `relative` is ||v - w|| / ||w||."""

    absolute: float
    relative: float


@dataclass(frozen=True)
class ModuleError:
    """Mean and variance over the layers that have a module; over modules too, of a whole model."""

    tensors: int
    absolute_mean: float
    absolute_variance: float
    relative_mean: float
    relative_variance: float


def relative_error(x: Float[Any, "*shape"], found: Float[Any, "*shape"]) -> float:
    """||found - x|| / ||x||; the numerator alone where x is zero."""
    return ratio(*squares(x, found))


def ratio(change: float, whole: float) -> float:
    """The root of change / whole, sums of squares; that of `change` where `whole` is zero."""
    return math.sqrt(change / whole) if whole else math.sqrt(change)


def squares(x: Float[Any, "*shape"], found: Float[Any, "*shape"]) -> tuple[float, float]:
    """(||found - x||^2, ||x||^2) in float64, block by block; a request to stop is obeyed between them."""
    one, other = (np.asarray(each).reshape(-1) for each in (x, found))
    change = whole = 0.0
    for start in range(0, one.size, _BLOCK):
        stopping.check()
        w = one[start : start + _BLOCK].astype(np.float64)
        v = other[start : start + _BLOCK] - w
        change, whole = change + float(v @ v), whole + float(w @ w)
    return change, whole


def tensor_errors(tensors: Tensors, found: Tensors) -> dict[str, TensorError]:
    """Of each tensor in `found`, against the one of its name in `tensors`."""
    return {name: _tensor_error(tensors[name], v) for name, v in found.items()}


def total_error(tensors: Tensors, found: Tensors) -> float:
    """||v - w|| / ||w|| of all weights together."""
    change, whole = zip(*(squares(x, found[name]) for name, x in tensors.items()), strict=True)
    return ratio(math.fsum(change), math.fsum(whole))


def by_module(errors: Mapping[str, TensorError]) -> dict[str, ModuleError]:
    """Of each module class (`encoder/layers/attention/query/kernel`), in the order of the names."""
    groups: dict[str, list[TensorError]] = {}
    for name, error in errors.items():
        groups.setdefault(module_class(name), []).append(error)
    return {module: over(own) for module, own in groups.items()}


def over(errors: list[TensorError]) -> ModuleError:
    """Mean and population variance; each tensor counts the same, whatever its size."""
    absolute = np.array([error.absolute for error in errors])
    relative = np.array([error.relative for error in errors])
    spread = (f(x) for x in (absolute, relative) for f in (np.mean, np.var))
    return ModuleError(len(errors), *map(float, spread))


def _tensor_error(x: Float[Any, "*shape"], found: Float[Any, "*shape"]) -> TensorError:
    absolute = np.mean(np.abs(np.asarray(found) - np.asarray(x)), dtype=np.float64)
    return TensorError(float(absolute), relative_error(x, found))
