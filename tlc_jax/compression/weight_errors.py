"""Errors of compressed weights, of single tensors and averaged over the layers that have a matrix (paper 5.3,
figure 9)."""

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
    """The error of a tensor w with n weights that became v: `absolute` is sum |v - w| / n, `relative` is
    ||v - w|| / ||w||."""

    absolute: float
    relative: float


@dataclass(frozen=True)
class ModuleError:
    """Mean and variance over the layers that have a module, or over all tensors of a model."""

    tensors: int
    absolute_mean: float
    absolute_variance: float
    relative_mean: float
    relative_variance: float


def relative_error(x: Float[Any, "*shape"], compressed: Float[Any, "*shape"]) -> float:
    """||compressed - x|| / ||x||; the numerator alone where x is zero."""
    return ratio(*squares(x, compressed))


def ratio(change: float, whole: float) -> float:
    """sqrt(change / whole) of two sums of squares; sqrt(change) where `whole` is zero."""
    return math.sqrt(change / whole) if whole else math.sqrt(change)


def squares(x: Float[Any, "*shape"], compressed: Float[Any, "*shape"]) -> tuple[float, float]:
    """(||compressed - x||^2, ||x||^2) in float64, block by block; a request to stop is obeyed between
    them."""
    before, after = (np.asarray(array).reshape(-1) for array in (x, compressed))
    change = whole = 0.0
    for start in range(0, before.size, _BLOCK):
        stopping.check()
        w = before[start : start + _BLOCK].astype(np.float64)
        v = after[start : start + _BLOCK] - w
        change, whole = change + float(v @ v), whole + float(w @ w)
    return change, whole


def tensor_errors(tensors: Tensors, compressed: Tensors) -> dict[str, TensorError]:
    """The error of each tensor in `compressed`, against the one of its name in `tensors`."""
    return {name: _tensor_error(tensors[name], v) for name, v in compressed.items()}


def total_error(tensors: Tensors, compressed: Tensors) -> float:
    """||v - w|| / ||w|| of all weights together."""
    change, whole = zip(*(squares(x, compressed[name]) for name, x in tensors.items()), strict=True)
    return ratio(math.fsum(change), math.fsum(whole))


def by_module(errors: Mapping[str, TensorError]) -> dict[str, ModuleError]:
    """The error of each module class (`encoder/layers/attention/query/kernel`), in the order of the names."""
    groups: dict[str, list[TensorError]] = {}
    for name, error in errors.items():
        groups.setdefault(module_class(name), []).append(error)
    return {module: over(group) for module, group in groups.items()}


def over(errors: list[TensorError]) -> ModuleError:
    """Mean and population variance over tensors, all of equal weight, whatever their sizes."""
    absolute = np.array([error.absolute for error in errors])
    relative = np.array([error.relative for error in errors])
    spread = (f(x) for x in (absolute, relative) for f in (np.mean, np.var))
    return ModuleError(len(errors), *map(float, spread))


def _tensor_error(x: Float[Any, "*shape"], compressed: Float[Any, "*shape"]) -> TensorError:
    absolute = np.mean(np.abs(np.asarray(compressed) - np.asarray(x)), dtype=np.float64)
    return TensorError(float(absolute), relative_error(x, compressed))
