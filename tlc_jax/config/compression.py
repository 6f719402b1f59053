"""Every option of a compression, as frozen dataclasses beside those of `tlc_jax.config`; as light."""

from __future__ import annotations

import dataclasses
import itertools
import json
from dataclasses import dataclass
from typing import Any, Literal, Optional

from tlc_jax.config.quantization import QuantSpec, Rule
from tlc_jax.config.validation import check, check_types


@dataclass(frozen=True)
class RecoveryConfig:
    """Pruning in rounds, each followed by as much finetuning as it takes (paper 4.3)."""

    levels: tuple[float, ...] = (0.15, 0.30, 0.45, 0.60, 0.75, 0.90)
    """Shares of the prunable weights that are zero after each round."""
    target: float = 0.995
    """A round ends at this share of the accuracy that the model had before, on the tuning set; it is
    evaluated first, and there may be nothing to do."""
    max_epochs: float = 1.0
    """Or after so many epochs."""
    evaluate_every: int = 100
    """Updates between evaluations."""
    learning_rate: Optional[float] = None
    """Peak rate of each round; None: that of the run."""

    def __post_init__(self) -> None:
        check_types(self)
        levels = (0.0, *self.levels, 1.0)
        check(
            all(a < b for a, b in itertools.pairwise(levels)),
            f"recovery.levels must rise from above 0 to below 1, not {self.levels}",
        )
        for name in ("target", "max_epochs", "evaluate_every"):
            check(getattr(self, name) > 0, f"recovery.{name} must be positive, not {getattr(self, name)}")


@dataclass(frozen=True)
class CompressConfig:
    """One compression: what is pruned, what is quantized, how it is written."""

    bits: int = 8
    """1 to 8, or 32: not quantized."""
    sparsity: float = 0.0
    """Share of the prunable weights (all matrices but a classification's head) that become zero."""
    granularity: str = "tensor"
    """What shares one range: tensor (paper), row, or group:N, N neighbours of a row; below 8 bits take one of
    these. Where N does not divide the rows of a tensor, each of its rows has one range."""
    range: str = "minmax"
    """minmax (paper), mse (least squares), or percentile:P; below 8 bits take mse."""
    zero: Literal["nudged", "float"] = "nudged"
    """Whether zero is a code, as other tools want it, or the range begins where it begins (paper)."""
    matrices_only: bool = False
    """Leave vectors (biases, normalisation) float32, a share of a percent; the paper quantizes every
    parameter."""
    scope: Literal["global", "layer", "tensor"] = "global"
    """Prune the smallest weights of all (paper), of each layer, or of each tensor."""
    max_tensor_sparsity: Optional[float] = None
    """No tensor loses a larger share than this; others lose more instead."""
    heads: Optional[int] = None
    """Keep so many attention heads of each layer, the largest; the model gets smaller. None: all."""
    feed_forward_size: Optional[int] = None
    """Keep so many units of each feed-forward layer. None: all."""
    target_mb: Optional[float] = None
    """Megabytes (10^6 bytes) that the weights' file may have, before zstd: finds bits (2 to 8) and sparsity
    for each tensor, so that the model suffers least. Of --hf, which comes without data, every weight counts
    the same."""
    rules: tuple[Rule, ...] = ()
    """In a config document, in place of the rules that the options above make: what is done with which
    tensor."""
    recovery: Optional[RecoveryConfig] = None
    """Prune in rounds with finetuning between them, up to `sparsity`; None: once, without."""
    steps: tuple[Any, ...] = ()
    """In a config document: further steps of compression/methods/, after pruning and before quantization."""
    zstd: bool = False
    """Compress the file further; smaller, and readable by this program only."""

    def __post_init__(self) -> None:
        check_types(self)
        self.spec  # noqa: B018, its own checks
        check(0 <= self.sparsity < 1, f"sparsity must be in [0, 1), not {self.sparsity}")
        cap, target = self.max_tensor_sparsity, self.target_mb
        check(cap is None or 0 < cap <= 1, f"max_tensor_sparsity must be in (0, 1], not {cap}")
        check(target is None or target > 0, f"target_mb must be positive, not {target}")
        check(
            self.recovery is None or self.sparsity > 0,
            "recovery prunes in rounds up to the sparsity, which is 0: give --sparsity",
        )

    @property
    def spec(self) -> QuantSpec:
        """How whatever is quantized is quantized, without rules of one's own."""
        return QuantSpec(self.bits, self.granularity, self.range, self.zero)

    def recorded(self) -> dict[str, Any]:
        """What the manifest of an artifact says of it, as JSON: all options, and steps with their names."""
        options: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        steps = [{"step": type(s).__name__, **o} for s, o in zip(self.steps, options["steps"], strict=True)]
        del options["steps"]
        return {**options, "steps": steps} if steps else options

    @property
    def is_coarse(self) -> bool:
        """Whether there are fewer than 8 bits for one range a tensor, which loses much of most models."""
        specs = [rule.quant for rule in self.rules] or [self.spec]
        few = self.target_mb is not None
        return any(
            spec is not None and (spec.bits < 8 or few) and spec.granularity == "tensor" for spec in specs
        )


OF_FOLDERS = CompressConfig(granularity="group:64", range="mse", matrices_only=True)
"""What anybody's checkpoint is compressed by where nothing else is asked for (docs/results/minilm.md)."""
