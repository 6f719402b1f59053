"""What pruning by calibration data has in common, whatever its scores are.

Every matrix loses the same share, unlike in magnitude pruning, where the smallest weights of all matrices go:
scores are errors of a matrix's own outputs, and those of different matrices have no common unit."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from tlc_jax.compression.input_statistics import InputStatistics, Statistics, by_input, from_inputs
from tlc_jax.compression.quantize import row_length
from tlc_jax.compression.steps import Needs, Step
from tlc_jax.config.quantization import Rule
from tlc_jax.config.validation import check
from tlc_jax.core import stopping
from tlc_jax.core.errors import UserError
from tlc_jax.core.leaf import Masks

Weights = Float[np.ndarray, "inputs outputs"]
Kept = Bool[np.ndarray, "inputs outputs"]


@dataclass(frozen=True)
class CalibratedPruning(Step):
    """The weights that matter least become zero, in those matrices that rules prune without a sparsity of
    their own."""

    sparsity: float = 0.5
    """Share of the weights of each of these matrices that are zero afterwards."""
    pattern: str = ""
    """'N:M', such as 2:4, in place of a sparsity: at most N of every M neighbours in a row stay. Matrices
    whose rows M does not divide are left alone, and named."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(0 <= self.sparsity < 1, f"sparsity must be in [0, 1), not {self.sparsity}")
        fits = not self.pattern or (self.group is not None and 0 < self.group[0] < self.group[1])
        check(fits, f"pattern must be N:M with N below M, such as 2:4, not {self.pattern!r}")

    @property
    def needs(self) -> Needs:
        return Needs.CALIBRATION

    @property
    def group(self) -> tuple[int, int] | None:
        """(N, M) of the pattern; None: there is none."""
        match = re.fullmatch(r"([1-9]\d{0,3}):([1-9]\d{0,3})", self.pattern)
        return (int(match[1]), int(match[2])) if match else None

    @abstractmethod
    def keep(self, name: str, weights: Weights, inputs: InputStatistics, kept: Kept, is_lookup: bool) -> Kept:
        """A mask of what stays of a matrix of this name, of what is `kept` so far; of a lookup, whose rows
        are one-hot inputs, `weights` are its transpose."""

    def prune(
        self, tensors: Mapping[str, Any], rules: Mapping[str, Rule], masks: Masks, inputs: Statistics
    ) -> Masks:
        if not (self.pattern or self.sparsity):
            return masks  # and nothing is measured
        masks = dict(masks)
        for name in (name for name in tensors if _is_pruned(rules[name])):
            x = tensors[name]
            if len(x.shape) != 2 or not x.size or not self._fits(name, x):
                continue
            stopping.check()
            weights, known = by_input(name, x), inputs.get(name) or InputStatistics()
            if not np.isfinite(weights).all():
                raise UserError(f"{name} has values that are not finite: it cannot be pruned")
            before = masks.get(name)
            kept = np.ones(weights.shape, bool) if before is None else by_input(name, before).copy()
            is_lookup = known.second_moment is None and known.uses is not None
            kept = self.keep(name, weights, known, kept, is_lookup)
            masks[name] = from_inputs(name, kept, x.shape)
        return masks

    def undone(self, name: str, tensor: Any, rule: Rule, mask: Any) -> str:
        if not _is_pruned(rule) or self._fits(name, tensor):
            return ""
        assert self.group is not None
        return f"not pruned {self.pattern}, since {self.group[1]} does not divide the rows"

    def _fits(self, name: str, x: Any) -> bool:
        return self.group is None or row_length(name, x.shape) % self.group[1] == 0


def keep_largest(
    scores: Float[np.ndarray, "weights others"], kept: Bool[np.ndarray, "weights others"], count: int
) -> Bool[np.ndarray, "weights others"]:
    """`kept` without the `count` smallest scores of each column, of equals the first; those that are pruned
    already are among them."""
    order = np.argsort(np.where(kept, scores, -1.0), axis=0, kind="stable")[:count]
    kept = kept.copy()
    np.put_along_axis(kept, order, False, axis=0)
    return kept


def in_groups(x: np.ndarray, size: int) -> np.ndarray:
    """[inputs, outputs] as [size, groups x outputs]: the inputs of a group are neighbours."""
    return np.moveaxis(x.reshape(-1, size, x.shape[1]), 1, 0).reshape(size, -1)


def from_groups(x: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The inverse of `in_groups`, for a matrix of this shape."""
    return np.moveaxis(x.reshape(len(x), -1, shape[1]), 0, 1).reshape(shape)


def _is_pruned(rule: Rule) -> bool:
    return rule.prune and rule.sparsity is None
