"""How far compressed weights are from the trained ones, and what the same matrices of all layers share of
that (paper 5.3, figure 9)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from tlc_jax.core.stacked import Tensors, module_class


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
    one, other = np.asarray(x, np.float32), np.asarray(found, np.float32)
    change, norm = math.sqrt(_squares(other - one)), math.sqrt(_squares(one))
    return change / norm if norm else change


def tensor_errors(tensors: Tensors, found: Tensors) -> dict[str, TensorError]:
    """Of each tensor in `found`, against the one of its name in `tensors`."""
    return {name: _tensor_error(tensors[name], v) for name, v in found.items()}


def total_error(tensors: Tensors, found: Tensors) -> float:
    """||v - w|| / ||w|| of all weights together."""
    pairs = [(np.asarray(x), np.asarray(found[name])) for name, x in tensors.items()]
    change = math.fsum(_squares(other - one) for one, other in pairs)
    return math.sqrt(change / math.fsum(_squares(one) for one, _ in pairs))


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


def _squares(x: Float[Any, "*shape"]) -> float:
    return float(np.sum(np.square(x, dtype=np.float64)))
