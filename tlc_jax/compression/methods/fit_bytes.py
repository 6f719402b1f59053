"""Bits and sparsity of each tensor for a file of so many bytes."""

from __future__ import annotations

from dataclasses import dataclass, field

from tlc_jax.compression.steps import Needs, Step
from tlc_jax.config.quantization import QuantSpec
from tlc_jax.config.validation import check


@dataclass(frozen=True)
class FitBytes(Step):
    """Bits (2 to 8), a granularity and a sparsity for each tensor that no other step converts and for which
    no earlier step says how it is quantized, so that the model suffers least.

    The damage is measured on a model, which takes more than this package has: recipes/byte_budget.py replaces
    this step by the rules that it finds."""

    megabytes: float = 1.0
    """10^6 bytes that the weights' file may have with the coding plain."""
    spec: QuantSpec = field(default_factory=lambda: QuantSpec(range="mse"))
    """How tensors are quantized, but for bits, granularity and range, which are used where a step converts a
    tensor."""
    matrices_only: bool = False
    """Leave vectors float32."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(0 < self.megabytes < float("inf"), f"target_mb must be positive, not {self.megabytes}")

    @classmethod
    def examples(cls) -> tuple[Step, ...]:
        return ()

    @property
    def needs(self) -> Needs:
        return Needs.SEARCH
