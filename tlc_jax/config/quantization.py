"""How tensors are compressed, as words: what a config, the quantizer and an artifact say."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, Optional

from tlc_jax.config.validation import check_types

BITS = (*range(1, 9), 32)


@dataclass(frozen=True)
class QuantSpec:
    """Uniform quantization of one tensor (paper 4.2)."""

    bits: int = 8
    """1 to 8, or 32: not quantized."""
    granularity: str = "tensor"
    """What shares one range: the 'tensor' (paper), a 'row' (one output of a matrix, one entry of an
    embedding), or 'group:N', N neighbours of a row. A vector is always one."""
    range: str = "minmax"
    """'minmax' (paper); 'percentile:P' leaves P percent of the values outside at either end; 'mse' has the
    least mean squared error."""
    zero: Literal["nudged", "float"] = "nudged"
    """'float': the range begins where it begins (paper); 'nudged': it is moved by half a step at most, so
    that zero is a code, as other tools want it; that of a row, of a group and of a pruned tensor is widened
    to zero first, if it must be."""

    def __post_init__(self) -> None:
        check_types(self)
        if self.bits not in BITS:
            raise ValueError(f"bits must be one of {', '.join(map(str, BITS))}, not {self.bits}")
        if self.granularity not in ("tensor", "row") and not self.group_size:
            raise ValueError(f"granularity must be tensor, row or group:N, not {self.granularity!r}")
        if self.range not in ("minmax", "mse") and self.percentile is None:
            raise ValueError(
                f"range must be minmax, mse or percentile:P (below 50, two decimals), not {self.range!r}"
            )

    @property
    def group_size(self) -> int | None:
        """N of 'group:N'."""
        found = re.fullmatch(r"group:([1-9]\d*)", self.granularity)
        return int(found[1]) if found else None

    @property
    def percentile(self) -> float | None:
        """P of 'percentile:P'."""
        found = re.fullmatch(r"percentile:(\d+(\.\d\d?)?)", self.range)
        return float(found[1]) if found and float(found[1]) < 50 else None

    def __str__(self) -> str:
        return f"{self.bits} bits, {self.granularity}, {self.range}, zero {self.zero}"


@dataclass(frozen=True)
class Rule:
    """What is done with the tensors whose whole names match; of several rules the first counts."""

    pattern: str
    """A regular expression over names such as encoder/layers/3/attention/query/kernel."""
    quant: Optional[QuantSpec] = None
    """None: these stay float32."""
    prune: bool = False
    sparsity: Optional[float] = None
    """Of each of these tensors by itself; None: they are pruned with the others, to the recipe's sparsity."""
    why: str = ""
    """Told beside what is left alone."""

    def __post_init__(self) -> None:
        check_types(self)
        re.compile(self.pattern)
        if self.sparsity is not None and not (self.prune and 0 <= self.sparsity < 1):
            raise ValueError(f"a sparsity of the rule {self.pattern} takes prune=True and is in [0, 1)")
