"""The options of reports on models."""

from __future__ import annotations

from dataclasses import dataclass

from tlc_jax.config.validation import check


@dataclass(frozen=True)
class ErrorsConfig:
    """Measure the errors of quantization and of pruning for each kind of matrix (paper 5.3, figure 9), and
    the error of each combination of bits, range, zero and granularity."""

    run: tuple[str, ...]
    """Run directories, RUN@MARK, RUN@lastN or artifacts."""
    bits: int = 4
    """Bits for the errors by module."""
    sparsity: float = 0.6
    """Sparsity for the errors by module."""
    evaluate: bool = False
    """Also evaluate each combination on the tuning or held-out set: 108 evaluations."""
    output: str = "errors.png"
    """The picture to write; the numbers are written beside it with the suffix .jsonl."""

    def __post_init__(self) -> None:
        check(self.bits in range(1, 9), f"bits must be 1 to 8, not {self.bits}")
        check(0 < self.sparsity < 1, f"sparsity must be between 0 and 1, not {self.sparsity:g}")


@dataclass(frozen=True)
class SensitivityConfig:
    """Measure how much the predictions of a model change when one matrix alone is compressed, at every
    sparsity and number of bits that compress --target-mb chooses from."""

    run: str
    """A run directory, RUN@MARK or RUN@lastN."""
    examples: int = 128
    """Number of training examples whose predictions are compared."""
    output: str = "sensitivity.jsonl"
    """The file to write the numbers to."""

    def __post_init__(self) -> None:
        check(self.examples > 0, f"examples must be positive, not {self.examples}")
