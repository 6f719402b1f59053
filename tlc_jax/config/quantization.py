"""How tensors are quantized and pruned, as configs, the quantizer and artifacts say it."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from typing import Literal, Optional

from tlc_jax.config.validation import check_types

BITS = (*range(1, 9), 32)
_LITERALS = r"(?:[^\\.*+?()\[\]{}|^$]|\\\W)*"
_NAMES = rf"{_LITERALS}(?:(?:\\d\+|\.\*){_LITERALS}){{0,2}}"
_SIMPLE = re.compile(rf"(?:\(\?s\))?{_NAMES}(?:\|{_NAMES})*")


@dataclass(frozen=True)
class QuantSpec:
    """Uniform quantization of one tensor (paper 4.2)."""

    bits: int = 8
    """1 to 8, or 32: not quantized."""
    granularity: str = "tensor"
    """The weights that share one range: the 'tensor' (paper), a 'row' (one output of a matrix, one entry of
    an embedding), or 'group:N', N neighbours in a row. A vector always has one range."""
    range: str = "minmax"
    """'minmax' (paper); 'percentile:P' leaves P percent of the values outside at either end; 'mse' has the
    least mean squared error."""
    zero: Literal["nudged", "float", "symmetric"] = "nudged"
    """'float': the range stays as it is (paper); 'nudged': it is moved by at most half a step, so that zero
    has a code, which other tools require. The range of a row, a group or a pruned tensor is first widened to
    contain zero. 'symmetric': it reaches as far on either side of zero, whose code is the middle one and is
    not stored."""
    range_dtype: Literal["float32", "bfloat16"] = "float32"
    """The type in which ranges are stored; steps are rounded up to it before codes are made, so that codes
    cover the whole range."""

    def __post_init__(self) -> None:
        check_types(self)
        if self.bits not in BITS:
            raise ValueError(f"bits must be one of {', '.join(map(str, BITS))}, not {self.bits}")
        if self.zero == "symmetric" and self.bits == 1:
            raise ValueError("symmetric codes of 1 bit would be zero or negative: give zero nudged or float")
        if self.granularity not in ("tensor", "row") and not self.group_size:
            raise ValueError(f"granularity must be tensor, row or group:N, not {self.granularity!r}")
        if self.range not in ("minmax", "mse") and self.percentile is None:
            raise ValueError(
                f"range must be minmax, mse or percentile:P (below 50, two decimals), not {self.range!r}"
            )

    @property
    def group_size(self) -> int | None:
        """N of 'group:N'."""
        match = re.fullmatch(r"group:([1-9]\d*)", self.granularity)
        return int(match[1]) if match else None

    @property
    def percentile(self) -> float | None:
        """P of 'percentile:P'."""
        match = re.fullmatch(r"percentile:(\d+(\.\d\d?)?)", self.range)
        return float(match[1]) if match and float(match[1]) < 50 else None

    def __str__(self) -> str:
        dtype = "" if self.range_dtype == "float32" else f", ranges in {self.range_dtype}"
        return f"{self.bits} bits, {self.granularity}, {self.range}, zero {self.zero}{dtype}"


@dataclass(frozen=True)
class Rule:
    """How the tensors whose whole names match are compressed; the first rule that matches applies. Tensors
    that no rule matches are compressed as the recipe's other steps say."""

    pattern: str
    """A regular expression over names such as encoder/layers/3/attention/query/kernel."""
    quant: Optional[QuantSpec] = None
    """None: these stay float32."""
    prune: bool = False
    sparsity: Optional[float] = None
    """The sparsity of each of these tensors; None: they are pruned together with the others, to the recipe's
    sparsity."""
    why: str = ""
    """The reason why these tensors are not pruned or quantized, for reports."""

    def __post_init__(self) -> None:
        check_types(self)
        try:
            re.compile(self.pattern)
        except re.error as error:
            raise ValueError(
                f"the pattern of a rule must be a regular expression, and {self.pattern[:100]!r} is none "
                f"({error.msg}): correct it"
            ) from error
        if self.sparsity is not None and not (self.prune and 0 <= self.sparsity < 1):
            raise ValueError(f"the sparsity of the rule {self.pattern} must be in [0, 1), with prune=True")

    @property
    def is_simple(self) -> bool:
        r"""Whether the pattern has nothing but escaped names, `|`, and in each name at most two of `\d+` and
        `.*`: no name then takes long to match, whoever wrote the pattern."""
        return _SIMPLE.fullmatch(self.pattern) is not None

    def noting(self, reason: str) -> Rule:
        """The rule with one more reason why something is not done."""
        return dataclasses.replace(self, why="; ".join(filter(None, (self.why, reason))))
