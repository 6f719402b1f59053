"""N:M sparsity: of every M neighbours in a row, the N largest magnitudes stay (Mishra et al. 2021,
https://arxiv.org/abs/2104.08378).

Sparse tensor cores multiply 2:4 matrices at up to twice the rate of dense ones. Neighbours run along the
inputs of an output: the first axis of our kernels [in, out], the last axis of everything else, as of torch's
matrices [out, in].

The leaf is that of any pruned tensor. At 2:4 its bitmap takes one bit a weight, as many as the two-bit
indices of the kept weights that the hardware reads: with codes of b bits a matrix has (b / 2 + 1) / b of the
bytes of its dense form, at 8 bits five eighths. In general the kept weights are N / M of all.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tlc_jax.compression.input_statistics import Statistics
from tlc_jax.compression.methods.prune_magnitude import check_no_movement
from tlc_jax.compression.quantize import row_axis, row_length
from tlc_jax.compression.steps import Needs, Step
from tlc_jax.config.compression import RecoveryConfig
from tlc_jax.config.quantization import Rule
from tlc_jax.config.validation import check
from tlc_jax.core import stopping
from tlc_jax.core.errors import UserError
from tlc_jax.core.leaf import Masks

_BLOCK = 1 << 16  # groups that are sorted at once


@dataclass(frozen=True)
class PruneNOfM(Step):
    """At most `n` of every `m` neighbours stay, in those tensors that rules prune without a sparsity of their
    own. Among equal magnitudes the first go first. Tensors whose rows `m` does not divide are left alone, and
    named."""

    n: int = 2
    m: int = 4
    recovery: RecoveryConfig | None = None
    """Finetune after pruning, in one round whatever its levels are."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.n >= 1, f"n must be positive, not {self.n}")
        check(self.m > self.n, f"m must be larger than n, which is {self.n}, not {self.m}")
        check_no_movement(self.recovery)

    @classmethod
    def examples(cls) -> tuple[Step, ...]:
        return cls(), cls(1, 4), cls(5, 8)

    @property
    def needs(self) -> Needs:
        return Needs.NOTHING if self.recovery is None else Needs.TRAINING

    @property
    def sparsity(self) -> float:
        """Share of the weights of these tensors that are zero afterwards."""
        return 1 - self.n / self.m

    @property
    def levels(self) -> tuple[float, ...]:
        """The sparsity after the only round."""
        return (self.sparsity,)

    def rounds(self) -> tuple[PruneNOfM, ...]:
        """The one pruning that recovery does, at once."""
        return (dataclasses.replace(self, recovery=None),)

    def prune(
        self, tensors: Mapping[str, Any], rules: Mapping[str, Rule], masks: Masks, inputs: Statistics
    ) -> Masks:
        masks = dict(masks)
        for name in (name for name in tensors if _is_pruned(rules[name])):
            x = tensors[name]
            if row_length(name, x.shape) % self.m == 0:
                masks[name] = largest_of_groups(name, x, self.n, self.m, masks.get(name))
        return masks

    def undone(self, name: str, tensor: Any, rule: Rule, mask: Any) -> str:
        if not _is_pruned(rule) or row_length(name, tensor.shape) % self.m == 0:
            return ""
        return f"not pruned {self.n}:{self.m}, since {self.m} does not divide the rows"


def largest_of_groups(name: str, x: Any, n: int, m: int, previous: Any = None) -> np.ndarray:
    """A mask of the n largest magnitudes of every m neighbours in the rows of a tensor, of those that
    `previous` keeps. UserError where a value is not finite."""
    axis = row_axis(name, x.shape)
    rows = np.moveaxis(np.asarray(x), axis, -1)
    groups = rows.reshape(-1, m)
    kept = np.ones(groups.shape, bool)
    if previous is not None:
        kept[:] = np.moveaxis(np.asarray(previous), axis, -1).reshape(-1, m)
    for start in range(0, len(groups), _BLOCK):
        stopping.check()
        piece = kept[start : start + _BLOCK]
        magnitudes = np.abs(groups[start : start + _BLOCK])
        if not np.isfinite(magnitudes).all():
            raise UserError(f"{name} has values that are not finite: nothing can be pruned by magnitude")
        magnitudes[~piece] = -1.0  # what was pruned goes first, and stays pruned
        smallest = np.argsort(magnitudes, axis=1, kind="stable")[:, : m - n]
        np.put_along_axis(piece, smallest, False, axis=1)
    return np.ascontiguousarray(np.moveaxis(kept.reshape(rows.shape), -1, axis))


def _is_pruned(rule: Rule) -> bool:
    return rule.prune and rule.sparsity is None
