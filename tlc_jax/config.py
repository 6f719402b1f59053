"""Every option of a run, as frozen dataclasses. Imports only the standard library.

A document in `configs/` builds one `Config`; the command line overrides its fields; the result
is written to the run directory and rebuilds the run alone. Checks that involve two fields name both.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal, Optional, Union  # tyro reads `X | Y` with typeguard: 0.1 s to import

from tlc_jax.core.data_config import DataConfig, PairsConfig
from tlc_jax.core.marks import Mark, kept_marks
from tlc_jax.core.model_config import LARGEST, EncoderDecoderConfig, ModelConfig
from tlc_jax.core.typed import check, check_types

BudgetMeasure = Literal["steps", "training_seconds", "tokens"]


@dataclass(frozen=True)
class MlmConfig:
    """Masked language modelling as in fairseq's masked_lm (paper 3.1)."""

    mask_rate: float = 0.15
    """Share of the tokens of a row that are predicted; of these 80 % become <mask>, 10 % a random token."""

    def __post_init__(self) -> None:
        check_types(self)
        check(0 < self.mask_rate <= 1, f"task.mask_rate must be in (0, 1], not {self.mask_rate}")


@dataclass(frozen=True)
class ClassificationConfig:
    """Classification of a text or a pair of texts (paper 3.1; fairseq sentence_prediction)."""

    max_examples: Optional[int] = None
    """Train on so many examples, the same ones for every seed; None: on all of them."""
    dropout: float = 0.1
    """In the encoder, in place of the pretrained model's: on outputs of sub-layers and on attention."""
    head_dropout: float = 0.0
    """Before both layers of the head (fairseq pooler_dropout)."""

    def __post_init__(self) -> None:
        check_types(self)
        limit = self.max_examples
        check(limit is None or limit >= 1, f"task.max_examples must be at least 1, not {limit}")
        for name in ("dropout", "head_dropout"):
            check(0 <= getattr(self, name) < 1, f"task.{name} must be in [0, 1), not {getattr(self, name)}")


@dataclass(frozen=True)
class TranslationConfig:
    """Translation as Tensor2Tensor trains it (paper 3.1)."""

    label_smoothing: float = 0.1
    """Probability that the loss gives to all other tokens together, uniformly."""
    row_multiple: int = 8
    """Every batch has a multiple of so many rows: devices x micro-batches must divide it."""
    bleu_sentences: int = 0
    """Translate the first so many sentences of the validation set at each evaluation, greedily, and report
    BLEU; 0: none."""

    def __post_init__(self) -> None:
        check_types(self)
        share = self.label_smoothing
        check(0 <= share < 1, f"task.label_smoothing must be in [0, 1), not {share}")
        check(self.row_multiple >= 1, f"task.row_multiple must be at least 1, not {self.row_multiple}")
        check(
            self.bleu_sentences >= 0, f"task.bleu_sentences must not be negative, not {self.bleu_sentences}"
        )


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW as fairseq trains RoBERTa: decoupled decay, on every parameter unless told otherwise."""

    learning_rate: float = 1.5e-3
    """Peak (paper table 1: 1.5e-3 at batch 8192)."""
    beta1: float = 0.9
    """Decay of the mean of gradients."""
    beta2: float = 0.98
    """Decay of the mean of squared gradients."""
    epsilon: float = 1e-6
    """Added to the root of the mean of squares."""
    weight_decay: float = 0.01
    """Share of a parameter that a step at learning rate 1 takes away."""
    decayed: Literal["all", "matrices"] = "all"
    """'all' parameters decay (fairseq), or 'matrices' only: no biases and no normalisation scales."""

    def __post_init__(self) -> None:
        check_types(self)
        for name in ("learning_rate", "epsilon"):
            check(
                0 < getattr(self, name) < math.inf,
                f"optimizer.{name} must be positive, not {getattr(self, name)}",
            )
        for name in ("beta1", "beta2"):
            check(
                0 <= getattr(self, name) < 1, f"optimizer.{name} must be in [0, 1), not {getattr(self, name)}"
            )
        check(self.weight_decay >= 0, f"optimizer.weight_decay must not be negative, not {self.weight_decay}")


@dataclass(frozen=True)
class ScheduleConfig:
    """Linear warm-up, then linear decay to zero at the end of the budget that it follows.

    With a `cooldown` the rate stays at its peak until the decay begins (warm-up, stable, decay). With
    `noam_steps` it is Tensor2Tensor's instead, which knows no end.
    """

    follows: BudgetMeasure = "steps"
    """Which budget the schedule is stretched over; that budget must be set."""
    warmup: float = 0.06
    """Share of the budget spent warming up."""
    cooldown: Optional[float] = None
    """Share of the budget, at its end, over which the rate falls to zero; None: all that the warm-up leaves.
    0: it never falls, which makes a trunk: each mark is finished by a branch (--branch-from)."""
    noam_steps: Optional[int] = None
    """Warm up for so many updates, then fall with the square root of their number (T2T: 8000). The rate is
    optimizer.learning_rate (T2T: 2.0) x min(1, n / noam_steps) / sqrt(max(n, noam_steps) x hidden_size)."""
    local_attention: float = 0.0
    """Share of the budget over which attention widens from 3 tokens on each side to the whole row; 0: never
    local. A small model learns to look at neighbours many times sooner; a million tokens is the least that
    this should last (docs/local_attention.md)."""

    def __post_init__(self) -> None:
        check_types(self)
        check(0 <= self.warmup < 1, f"schedule.warmup must be in [0, 1), not {self.warmup}")
        cooldown, noam = self.cooldown, self.noam_steps
        check(noam is None or noam >= 1, f"schedule.noam_steps must be at least 1, not {noam}")
        check(
            noam is None or (cooldown is None and self.warmup == 0),
            "schedule.noam_steps has its own warm-up and no end: set schedule.warmup 0 and no cooldown",
        )
        check(
            cooldown is None or 0 <= cooldown <= 1 - self.warmup + 1e-9,
            f"schedule.cooldown must be in [0, 1 - schedule.warmup], not {cooldown}",
        )
        share = self.local_attention
        check(0 <= share < 1, f"schedule.local_attention must be in [0, 1), not {share}")


@dataclass(frozen=True)
class BudgetConfig:
    """The run ends at the first limit reached. At least one is set."""

    steps: Optional[int] = None
    """Optimizer updates."""
    training_seconds: Optional[float] = None
    """Seconds of training: without compilation, evaluation and saving."""
    tokens: Optional[int] = None
    """Tokens of the batches, as `tokens` in metrics.jsonl counts them."""

    def __post_init__(self) -> None:
        check_types(self)
        for name, limit in vars(self).items():
            check(limit is None or limit > 0, f"budget.{name} must be positive, not {limit}")


@dataclass(frozen=True)
class EvaluationConfig:
    every_steps: Optional[int] = 1000
    """Evaluate on the held-out rows so often, and always at the end; None: only at the end."""
    max_rows: Optional[int] = None
    """Evaluate on so many held-out rows, evenly spread; None: on all of them."""
    stop_at_accuracy: Optional[float] = None
    """End the run as soon as an evaluation finds this accuracy; there is one before the first update too."""

    def __post_init__(self) -> None:
        check_types(self)
        for name, limit in vars(self).items():
            check(limit is None or limit > 0, f"evaluation.{name} must be positive, not {limit}")


@dataclass(frozen=True)
class CheckpointConfig:
    every_steps: Optional[int] = 1000
    """Save so often, and always at the end and when interrupted; None: only then."""
    keep: int = 2
    """How many of the newest checkpoints stay."""
    marks: str = ""
    """Keep a checkpoint at each of these, separated by commas: shares of the budget that the schedule follows
    (1/16), epochs of the data (epoch3). RUN@MARK names it for --branch-from and for evaluate."""

    def __post_init__(self) -> None:
        check_types(self)
        check(self.every_steps is None or self.every_steps > 0, "checkpoint.every_steps must be positive")
        check(self.keep >= 2, f"checkpoint.keep must be at least 2, not {self.keep}")
        kept_marks(self.marks, trunk=True)


@dataclass(frozen=True)
class MeshConfig:
    """How the devices share the work; a resumed run may change it."""

    data: Optional[int] = None
    """Groups of devices that rows are split over; None: as many as the other two leave."""
    fsdp: int = 1
    """Devices of a group that split rows, and parameters, gradients and optimizer state too (ZeRO-3)."""
    tensor: int = 1
    """Devices that split the heads and the feed-forward units of each layer."""

    def __post_init__(self) -> None:
        check_types(self)
        for name, size in vars(self).items():
            check(size is None or size >= 1, f"mesh.{name} must be at least 1, not {size}")


@dataclass(frozen=True)
class Config:
    """One run."""

    model: Union[ModelConfig, EncoderDecoderConfig] = field(default_factory=ModelConfig)
    task: Union[MlmConfig, ClassificationConfig, TranslationConfig] = field(default_factory=MlmConfig)
    data: Union[DataConfig, PairsConfig] = field(default_factory=DataConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    budget: BudgetConfig = field(default_factory=lambda: BudgetConfig(steps=100_000))
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    mesh: MeshConfig = field(default_factory=MeshConfig)
    batch_size: int = 8192
    """Rows of one update, over all devices. Of a translation: tokens of the longer side, pads included."""
    micro_batch: Union[int, Literal["auto"], None] = None
    """Rows (or tokens) computed at once, over all devices; gradients are summed up to batch_size. None: all
    at once. 'auto': the most that fit, as the compiler tells before the first step; the run then keeps it."""
    memory_gib: Optional[float] = None
    """Of one device, which 'auto' may fill; None: what the device says (a CPU says nothing)."""
    max_skipped: int = 20
    """Stop after so many steps in a row whose loss or gradient was not finite; fewer are skipped."""
    hung_after: float = 1800.0
    """Report the stacks of all threads when no step has ended for so many seconds."""
    stop_after: Optional[float] = None
    """Seconds after its start at which this process will be taken away: it saves and stops, resumable, early
    enough before that."""
    log_every: int = 20
    """Steps between lines of metrics.jsonl."""
    seed: int = 0
    """Initialisation, data order, masking and dropout."""

    def __post_init__(self) -> None:
        check_types(self)
        for name in ("batch_size", "log_every", "max_skipped"):
            check(getattr(self, name) >= 1, f"{name} must be at least 1, not {getattr(self, name)}")
        check(self.batch_size <= LARGEST, f"batch_size must be at most {LARGEST:,}, not {self.batch_size}")
        for name in ("hung_after", "stop_after"):
            seconds = getattr(self, name)
            check(seconds is None or seconds > 0, f"{name} must be positive, not {seconds}")
        for name, seed in (("seed", self.seed), ("data.seed", self.data.seed)):
            check(0 <= seed < 2**32, f"{name} must be at least 0 and below 2**32, not {seed}")
        micro = self.micro_batch
        check(
            not isinstance(micro, int) or (micro >= 1 and self.batch_size % micro == 0),
            f"batch_size {self.batch_size} is not a multiple of micro_batch {micro}",
        )
        memory = self.memory_gib
        meant = memory is None or 0 < memory < math.inf
        check(meant, f"memory_gib must be positive and finite, not {memory}")
        self._check_parts()
        check(
            getattr(self.budget, self.schedule.follows) is not None,
            f"schedule.follows is {self.schedule.follows!r} but budget.{self.schedule.follows} is not set",
        )

        self._check_trunk()

    def _check_parts(self) -> None:
        """Model, data and task are of one kind, and fit."""
        model, data, task = self.model, self.data, self.task
        kinds = (isinstance(model, EncoderDecoderConfig), isinstance(data, PairsConfig))
        check(
            kinds == (isinstance(task, TranslationConfig),) * 2,
            "a translation takes EncoderDecoderConfig, TranslationConfig and PairsConfig; everything "
            f"else ModelConfig and DataConfig: here are {type(model).__name__}, {type(task).__name__} and "
            f"{type(data).__name__}",
        )
        check(
            model.heads % self.mesh.tensor == 0,
            f"mesh.tensor {self.mesh.tensor} does not divide the {model.heads} attention heads",
        )
        if isinstance(model, ModelConfig):
            check(
                data.sequence_length <= model.max_positions,
                f"data.sequence_length {data.sequence_length} is longer than model.max_positions "
                f"{model.max_positions}",
            )
        if isinstance(task, TranslationConfig):
            rows, longest = task.row_multiple, data.sequence_length
            parts = 1 if self.micro_batch == "auto" else self.micro_batches
            check(
                rows % parts == 0,
                f"task.row_multiple {rows} is not a multiple of {parts} micro-batches",
            )
            check(
                self.batch_size >= rows * longest,
                f"batch_size {self.batch_size} tokens do not hold task.row_multiple {rows} rows of "
                f"data.sequence_length {longest} tokens",
            )

    def _check_trunk(self) -> None:
        """A branch must leave a trunk at its peak rate, with attention over the whole row."""
        shares = [point.share for point in self.kept_marks if point.share is not None]
        for name in ("warmup", "local_attention"):
            share = getattr(self.schedule, name)
            check(
                self.schedule.cooldown != 0 or not shares or share <= min(shares),
                f"schedule.{name} lasts {share} of the budget but the first branch leaves at "
                f"{min(shares, default=0):g}, 80 % of the first of checkpoint.marks: set it to that at most, "
                "or drop the first marks",
            )

    @property
    def kept_marks(self) -> tuple[Mark, ...]:
        """The points whose checkpoints stay; those of a trunk include where its branches leave."""
        return kept_marks(self.checkpoint.marks, trunk=self.schedule.cooldown == 0)

    @property
    def at_once(self) -> int:
        """Rows (or tokens) of one micro-batch."""
        if self.micro_batch == "auto":
            raise ValueError("micro_batch is 'auto': it is known only once a run has begun")
        return self.micro_batch or self.batch_size

    @property
    def rows_at_once(self) -> int:
        """What devices must divide: rows of a micro-batch, or what these are a multiple of."""
        if isinstance(self.task, TranslationConfig):
            return self.task.row_multiple // self.micro_batches
        return self.at_once

    @property
    def rows_at_once_named(self) -> str:
        """Which field says so."""
        if isinstance(self.task, TranslationConfig):
            return "task.row_multiple over the number of micro-batches"
        return "batch_size" if self.micro_batch is None else "micro_batch"

    @property
    def micro_batches(self) -> int:
        """How many micro-batches make one update; part of the run's identity."""
        return self.batch_size // self.at_once


# Fields that a resumed run may change: they alter neither the parameters nor the data.
FREE_ON_RESUME = (
    "log_every",
    "max_skipped",
    "hung_after",
    "stop_after",
    "evaluation.every_steps",
    "evaluation.max_rows",
    "checkpoint.every_steps",
    "checkpoint.keep",
    "data.cache_dir",
    "memory_gib",
    "mesh.data",
    "mesh.fsdp",
    "mesh.tensor",
)
