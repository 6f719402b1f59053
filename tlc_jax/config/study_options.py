"""Every option of a study, as frozen dataclasses beside those of `tlc_jax.config`; as light to import."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from tlc_jax.config.run import Config
from tlc_jax.config.task import ClassificationConfig, MlmConfig
from tlc_jax.config.training import BudgetConfig, ScheduleConfig
from tlc_jax.config.validation import check, check_types


@dataclass(frozen=True)
class SearchConfig:
    """A grid of finetunings (paper, appendix D); empty: no choice.

    The combination with the best mean over its seeds on the tuning set is kept, in all of its seeds.
    """

    learning_rates: tuple[float, ...] = ()
    """Peak learning rates."""
    batch_sizes: tuple[int, ...] = ()
    """Rows of an update; the number of updates changes so that as many rows are seen."""
    dropouts: tuple[float, ...] = ()
    """Dropout of the encoder."""
    seeds: tuple[int, ...] = ()
    """Of each combination: a new head and another order of the examples."""

    def __post_init__(self) -> None:
        check_types(self)
        for name, values in vars(self).items():
            check(len(set(values)) == len(values), f"search.{name} holds a value twice: {values}")


def _pretraining() -> Config:
    schedule = ScheduleConfig(follows="training_seconds")
    return Config(schedule=schedule, budget=BudgetConfig(training_seconds=3600))


def _finetuning() -> Config:
    return Config(task=ClassificationConfig(), budget=BudgetConfig(steps=20_000), batch_size=32)


@dataclass(frozen=True)
class StudyConfig:
    """Train several sizes for the same time, finetune each, compress each, compare (paper 5)."""

    pretrain: Config = field(default_factory=_pretraining)
    """How every size is pretrained; depth and width come from `sizes`."""
    finetune: Config = field(default_factory=_finetuning)
    """How every size is finetuned; model and tokenizer are the pretrained run's."""
    search: SearchConfig = field(default_factory=SearchConfig)
    """What each finetuning tries."""
    sizes: tuple[str, ...] = ("2x64", "2x128")
    """Depth x width."""
    bits: tuple[int, ...] = (32, 8, 6, 4, 3)
    """Quantized to these; 32 is not quantized."""
    sparsities: tuple[float, ...] = (0.0, 0.3, 0.6, 0.9)
    """Pruned to these shares of all matrices' weights; each is quantized to each of `bits`."""

    def __post_init__(self) -> None:
        check_types(self)
        for size in self.sizes:
            self.pretrain_of(size)
        known = (*range(1, 9), 32)
        check(all(bits in known for bits in self.bits), f"bits must be of 1 to 8 or 32, not {self.bits}")
        check(len(set(self.sizes)) == len(self.sizes) > 0, f"sizes {self.sizes} must differ, one at least")
        check(
            all(0 <= s < 1 for s in self.sparsities), f"sparsities must be in [0, 1), not {self.sparsities}"
        )
        check(
            isinstance(self.pretrain.task, MlmConfig)
            and isinstance(self.finetune.task, ClassificationConfig),
            "pretrain.task must be masked language modelling and finetune.task a classification",
        )
        check(
            self.pretrain.budget.training_seconds is not None,
            "pretrain.budget.training_seconds is not set: sizes are compared at equal training time",
        )

    def pretrain_of(self, size: str) -> Config:
        """The pretraining config of one size."""
        depth, _, width = size.partition("x")
        check(depth.isdigit() and width.isdigit(), f"sizes: {size!r} is not DEPTHxWIDTH, such as 2x128")
        model = replace(self.pretrain.model, num_layers=int(depth), hidden_size=int(width))
        return replace(self.pretrain, model=model)

    def finetunings(self) -> dict[str, dict[str, Config]]:
        """The search: the seeds of each combination, both by a name; together they name a folder."""
        own, search = self.finetune, self.search
        assert isinstance(own.task, ClassificationConfig)
        found = {}
        for rate in search.learning_rates or (own.optimizer.learning_rate,):
            for rows in search.batch_sizes or (own.batch_size,):
                for dropout in search.dropouts or (own.task.dropout,):
                    steps = own.budget.steps and math.ceil(own.budget.steps * own.batch_size / rows)
                    combined = replace(
                        own,
                        task=replace(own.task, dropout=dropout),
                        optimizer=replace(own.optimizer, learning_rate=rate),
                        budget=replace(own.budget, steps=steps),
                        batch_size=rows,
                    )
                    found[f"lr{rate:g}-batch{rows}-dropout{dropout:g}"] = {
                        f"seed{seed}": replace(combined, seed=seed) for seed in search.seeds or (own.seed,)
                    }
        return found


@dataclass(frozen=True)
class ErrorsConfig:
    """Measure errors of quantization and of pruning for each kind of matrix (paper 5.3, figure 9), and of
    each choice of bits, range and granularity."""

    run: tuple[str, ...]
    """Run directories, marks of them (RUN@MARK) or artifacts."""
    bits: int = 4
    """Of the errors by module."""
    sparsity: float = 0.6
    """The same."""
    evaluate: bool = False
    """Evaluate each choice too, on the tuning or held-out set: 54 evaluations."""
    output: str = "errors.png"
    """The picture; the numbers go beside it as .jsonl."""

    def __post_init__(self) -> None:
        check(self.bits in range(1, 9), f"bits must be 1 to 8, not {self.bits}")
        check(0 < self.sparsity < 1, f"sparsity must be between 0 and 1, not {self.sparsity:g}")


@dataclass(frozen=True)
class SensitivityConfig:
    """Measure how much a model minds the compression of each matrix alone, at every sparsity and number of
    bits that compress --target-mb chooses from."""

    run: str
    """A run directory, or RUN@MARK."""
    examples: int = 128
    """Training examples (rows of text) whose predictions are compared."""
    output: str = "sensitivity.jsonl"
    """The numbers."""

    def __post_init__(self) -> None:
        check(self.examples > 0, f"examples must be positive, not {self.examples}")
