"""Every option of a compression, as frozen dataclasses beside those of `tlc_jax.config`; as light to
import."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tlc_jax.config import check
from tlc_jax.core.quantspec import QuantSpec, Rule
from tlc_jax.core.typed import check_types


@dataclass(frozen=True)
class CompressConfig:
    """One compression: what is pruned, what is quantized, how it is written."""

    bits: int = 8
    """1 to 8, or 32: not quantized."""
    sparsity: float = 0.0
    """Share of the prunable weights (all matrices but a classification's head) that become zero."""
    granularity: str = "tensor"
    """What shares one range: tensor (paper), row, or group:N."""
    range: str = "minmax"
    """minmax (paper), mse, or percentile:P; at 4 bits and less take mse."""
    zero: Literal["nudged", "float"] = "nudged"
    """Whether zero is a code, as other tools want it, or the range begins where it begins (paper)."""
    matrices_only: bool = False
    """Leave vectors (biases, normalisation) float32; the paper quantizes every parameter."""
    scope: Literal["global", "layer", "tensor"] = "global"
    """Prune the smallest weights of all (paper), of each layer, or of each tensor."""
    max_tensor_sparsity: float | None = None
    """No tensor loses a larger share than this; others lose more instead."""
    rules: tuple[Rule, ...] = ()
    """In a config document, in place of the rules that the options above make: what is done with which
    tensor."""
    zstd: bool = False
    """Compress the file further; smaller, and readable by this program only."""

    def __post_init__(self) -> None:
        check_types(self)
        self.spec  # noqa: B018, its own checks
        check(0 <= self.sparsity < 1, f"sparsity must be in [0, 1), not {self.sparsity}")
        cap = self.max_tensor_sparsity
        check(cap is None or 0 < cap <= 1, f"max_tensor_sparsity must be in (0, 1], not {cap}")

    @property
    def spec(self) -> QuantSpec:
        """How whatever is quantized is quantized, without rules of one's own."""
        return QuantSpec(self.bits, self.granularity, self.range, self.zero)
