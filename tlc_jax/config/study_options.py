"""The options of studies and reports."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from tlc_jax.config.compression import CompressConfig
from tlc_jax.config.quantization import BITS
from tlc_jax.config.run import Config
from tlc_jax.config.task import ClassificationConfig
from tlc_jax.config.training import BudgetConfig, ScheduleConfig
from tlc_jax.config.validation import check, check_types


@dataclass(frozen=True)
class SearchConfig:
    """A grid of finetunings (paper, appendix D); an empty field takes the value of `finetune`.

    The combination with the best mean over its seeds on the tuning set is compressed, with all of its seeds.
    """

    learning_rates: tuple[float, ...] = ()
    """Peak learning rates."""
    batch_sizes: tuple[int, ...] = ()
    """Examples per update; the number of updates changes so that the same number of examples is seen."""
    dropouts: tuple[float, ...] = ()
    """Dropout rates of the encoder."""
    seeds: tuple[int, ...] = ()
    """Seeds of each combination: of the new head and of the order of the examples."""

    def __post_init__(self) -> None:
        check_types(self)
        for name, values in vars(self).items():
            check(len(set(values)) == len(values), f"search.{name} has a value twice: {values}")


_NOT_FOR_STUDIES = ("bits", "sparsity", "recovery", "target_mb")
"""Fields of a compression that are those of the study, or need more than a finetuned model."""


def _pretraining() -> Config:
    schedule = ScheduleConfig(follows="training_seconds")
    return Config(schedule=schedule, budget=BudgetConfig(training_seconds=3600))


def _finetuning() -> Config:
    return Config(task=ClassificationConfig(), budget=BudgetConfig(steps=20_000), batch_size=32)


@dataclass(frozen=True)
class StudyConfig:
    """Pretrain several sizes for the same time, finetune and compress each, compare them (paper 5)."""

    pretrain: Config = field(default_factory=_pretraining)
    """The pretraining of every size; depth and width come from `sizes`."""
    finetune: Config = field(default_factory=_finetuning)
    """The finetuning of every size; model and tokenizer are those of the pretrained run."""
    search: SearchConfig = field(default_factory=SearchConfig)
    """The finetunings to choose from."""
    sizes: tuple[str, ...] = ("2x64", "2x128")
    """Depth x width."""
    bits: tuple[int, ...] = (32, 8, 6, 4, 3)
    """Numbers of bits to quantize to; 32 is not quantized."""
    sparsities: tuple[float, ...] = (0.0, 0.3, 0.6, 0.9)
    """Shares of the prunable weights to prune; each is combined with each of `bits`."""
    compression: CompressConfig = field(default_factory=CompressConfig)
    """How the finetuned models are compressed at each of `bits` and `sparsities`: a result is that of the
    artifact which `compress` writes with the same options."""

    def __post_init__(self) -> None:
        check_types(self)
        for size in self.sizes:
            self.pretrain_of(size)
        check(len(set(self.sizes)) == len(self.sizes) > 0, f"sizes must be different ones, not {self.sizes}")
        check(all(bits in BITS for bits in self.bits), f"bits must be of 1 to 8 or 32, not {self.bits}")
        check(
            all(0 <= s < 1 for s in self.sparsities), f"sparsities must be in [0, 1), not {self.sparsities}"
        )
        check(
            self.pretrain.budget.training_seconds is not None,
            "pretrain.budget.training_seconds is not set: sizes are compared at equal training time",
        )
        unset = {name: getattr(CompressConfig(), name) for name in _NOT_FOR_STUDIES}
        check(
            replace(self.compression, **unset) == self.compression,
            f"a study compresses at each of its bits and sparsities, without training: give none of "
            f"compression.{', compression.'.join(_NOT_FOR_STUDIES)}",
        )

    def pretrain_of(self, size: str) -> Config:
        """The pretraining config of one size."""
        depth, _, width = size.partition("x")
        check(depth.isdigit() and width.isdigit(), f"sizes: {size!r} is not DEPTHxWIDTH, such as 2x128")
        model = replace(self.pretrain.model, num_layers=int(depth), hidden_size=int(width))
        return replace(self.pretrain, model=model)

    def finetunings(self) -> dict[str, dict[str, Config]]:
        """The configs of the search by the names of their combination and of their seed, which together name
        a run directory."""
        base, search, combinations = self.finetune, self.search, {}
        for rate in search.learning_rates or (base.optimizer.learning_rate,):
            for rows in search.batch_sizes or (base.batch_size,):
                for dropout in search.dropouts or (vars(base.task)["dropout"],):
                    steps = base.budget.steps and math.ceil(base.budget.steps * base.batch_size / rows)
                    config = replace(
                        base,
                        task=replace(base.task, dropout=dropout),
                        optimizer=replace(base.optimizer, learning_rate=rate),
                        budget=replace(base.budget, steps=steps),
                        batch_size=rows,
                    )
                    combinations[f"lr{rate:g}-batch{rows}-dropout{dropout:g}"] = {
                        f"seed{seed}": replace(config, seed=seed) for seed in search.seeds or (base.seed,)
                    }
        return combinations

    def compressions(self) -> Iterator[CompressConfig]:
        """The compressions of each finetuned model, in the order in which they are made."""
        for sparsity, bits in itertools.product(self.sparsities, self.bits):
            yield replace(self.compression, sparsity=sparsity, bits=bits)


@dataclass(frozen=True)
class ErrorsConfig:
    """Measure the errors of quantization and of pruning for each kind of matrix (paper 5.3, figure 9), and
    the error of each combination of bits, range and granularity."""

    run: tuple[str, ...]
    """Run directories, RUN@MARK, RUN@lastN or artifacts."""
    bits: int = 4
    """Bits for the errors by module."""
    sparsity: float = 0.6
    """Sparsity for the errors by module."""
    evaluate: bool = False
    """Also evaluate each combination on the tuning or held-out set: 54 evaluations."""
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
