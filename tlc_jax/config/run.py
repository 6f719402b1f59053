"""Every option of a run, as frozen dataclasses. Imports only the standard library.

A document in `configs/` builds one `Config`; the command line overrides its fields; the result is written to
the run directory, from which alone the run can be rebuilt. A check of two fields names both.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Literal, Optional, Union  # tyro reads `X | Y` with typeguard: 0.1 s to import

from tlc_jax.config.compression_aware import CompressionAwareConfig
from tlc_jax.config.data import DataConfig, PairsConfig
from tlc_jax.config.marks import COOLDOWN, Mark, branch_point, kept_marks
from tlc_jax.config.model import LARGEST, EncoderDecoderConfig, ModelConfig
from tlc_jax.config.task import ClassificationConfig, MlmConfig, TranslationConfig
from tlc_jax.config.training import (
    BudgetConfig,
    CheckpointConfig,
    DistilConfig,
    EvaluationConfig,
    MeshConfig,
    OptimizerConfig,
    ScheduleConfig,
)
from tlc_jax.config.validation import check, check_fields, check_types


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
    distil: DistilConfig = field(default_factory=DistilConfig)
    compression_aware: CompressionAwareConfig = field(default_factory=CompressionAwareConfig)
    mesh: MeshConfig = field(default_factory=MeshConfig)
    batch_size: int = 8192
    """Rows of one update, over all devices. Of a translation: tokens of the longer side, pads included."""
    micro_batch: Union[int, Literal["auto"], None] = None
    """Rows (or tokens) computed at once, over all devices; gradients are summed up to batch_size. None: all
    at once. 'auto': as many as fit, which the compiler says before the first step; the run then keeps it."""
    memory_gib: Optional[float] = None
    """Memory of one device that 'auto' may fill; None: what the device reports (a CPU reports nothing)."""
    max_skipped: int = 20
    """Stop after this many steps in a row whose loss or gradient was not finite; fewer are skipped."""
    hung_after: float = 1800.0
    """Print the stacks of all threads when no step has ended for this many seconds."""
    stop_after: Optional[float] = None
    """Seconds after its start at which this process will be killed from outside: it saves and stops in time
    to be resumed."""
    data_share: float = 1.0
    """Share of the training text or pairs to train on (paper 5.1, figure 14): the same part for every seed
    and model, and a smaller share is a part of a larger one. Held-out data and the tokenizer stay those of
    all data."""
    log_every: int = 20
    """Steps between lines of metrics.jsonl."""
    tensorboard: bool = False
    """Also write the lines of metrics.jsonl as an event file for TensorBoard, to tensorboard/ in the run
    directory (extra `tensorboard`)."""
    seed: int = 0
    """Initialisation, data order, masking and dropout."""

    def __post_init__(self) -> None:
        check_types(self)
        counts = ("batch_size", "log_every", "max_skipped")
        check_fields(self, "", counts, lambda count: count >= 1, "at least 1")
        check(self.batch_size <= LARGEST, f"batch_size must be at most {LARGEST:,}, not {self.batch_size}")
        check_fields(self, "", ("hung_after", "stop_after"), lambda seconds: seconds > 0, "positive")
        for name, seed in (("seed", self.seed), ("data.seed", self.data.seed)):
            check(0 <= seed < 2**32, f"{name} must be at least 0 and below 2**32, not {seed}")
        micro = self.micro_batch
        check(
            not isinstance(micro, int) or (micro >= 1 and self.batch_size % micro == 0),
            f"batch_size {self.batch_size} is not a multiple of micro_batch {micro}",
        )
        check_fields(self, "", ("memory_gib",), lambda size: 0 < size < math.inf, "positive and finite")
        check_fields(self, "", ("data_share",), lambda share: 0 < share <= 1, "above 0 and at most 1")
        self._check_parts()
        check(
            getattr(self.budget, self.schedule.follows) is not None,
            f"schedule.follows is {self.schedule.follows!r} but budget.{self.schedule.follows} is not set",
        )
        self._check_trunk()

    def _check_parts(self) -> None:
        """The model and the data are those of the task, and fit it."""
        model, data, task = self.model, self.data, self.task
        given, needed = (type(model), type(data)), (task.model_type, task.data_type)
        check(
            given == needed,
            f"a {type(task).__name__} takes {' and '.join(kind.__name__ for kind in needed)}, not "
            f"{' and '.join(kind.__name__ for kind in given)}",
        )
        check(
            model.heads % self.mesh.tensor == 0,
            f"mesh.tensor {self.mesh.tensor} does not divide the {model.heads} attention heads",
        )
        check(
            task.takes_data_share or self.data_share == 1,
            f"data_share is {self.data_share}, but a {type(task).__name__} trains on a number of examples: "
            "give task.max_examples instead",
        )
        check(
            task.takes_attention_window or self.schedule.local_attention_tokens is None,
            "schedule.local_attention_tokens is for masked language models, not for a "
            f"{type(task).__name__}: drop it",
        )
        check(
            task.takes_layer_decay or self.optimizer.layer_decay == 1,
            f"optimizer.layer_decay is for encoders, not for a {type(task).__name__}: drop it",
        )
        longest = model.longest_input
        check(
            longest is None or data.sequence_length <= longest,
            f"data.sequence_length {data.sequence_length} is longer than model.max_positions {longest}",
        )
        parts = 1 if self.micro_batch == "auto" else self.micro_batches
        task.check_batch(self.batch_size, parts, data.sequence_length)

    def _check_trunk(self) -> None:
        """A branch must leave its trunk at the peak learning rate, with attention over the whole row: a share
        of the trunk's budget is another share of the branch's. A warm-up of so many updates is no share."""
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
        """The points whose checkpoints are kept; a trunk's include those that its branches leave from."""
        return kept_marks(self.checkpoint.marks, trunk=self.schedule.cooldown == 0)

    @property
    def ends_at(self) -> float:
        """The share of the budget after which nothing is left to do: a trunk ends where the branch to its
        mark 1, if it has one, leaves it."""
        last = [branch_point(mark).share for mark in self.kept_marks if mark.share == 1]
        return last[0] or 1.0 if self.schedule.cooldown == 0 and last else 1.0

    def finished_at(self, share: float) -> Config:
        """The config of a run that this trunk's would be with a share of its budget, at whose end the rate
        falls to zero: warm-up and narrow attention take as long as the trunk's."""
        measure, schedule = self.schedule.follows, self.schedule
        limit = share * getattr(self.budget, measure)
        return replace(
            self,
            schedule=replace(
                schedule,
                cooldown=COOLDOWN,
                warmup=schedule.warmup / share,
                local_attention=schedule.local_attention / share,
            ),
            budget=BudgetConfig(**{measure: limit if measure == "training_seconds" else round(limit)}),
            checkpoint=replace(self.checkpoint, marks=""),
            evaluation=replace(self.evaluation, stop_at=None),  # it ends with its budget
        )

    @property
    def at_once(self) -> int:
        """Rows (or tokens) of one micro-batch."""
        if self.micro_batch == "auto":
            raise ValueError("micro_batch is 'auto': it is a number only once a run has begun")
        return self.micro_batch or self.batch_size

    @property
    def rows_at_once(self) -> int:
        """Rows that the devices must divide: those of a micro-batch, or what these are a multiple of."""
        return self.task.rows_to_split(self.batch_size) // self.micro_batches

    @property
    def rows_at_once_named(self) -> str:
        """The field that sets `rows_at_once`, for messages."""
        return self.task.rows_field if self.micro_batch is None else self.task.micro_rows_field

    @property
    def micro_batches(self) -> int:
        """How many micro-batches make one update; part of the run's identity."""
        return self.batch_size // self.at_once


# Fields that a resumed run may change: they alter neither the parameters nor the data.
FREE_ON_RESUME = (
    "log_every",
    "tensorboard",
    "max_skipped",
    "hung_after",
    "stop_after",
    "evaluation.every_steps",
    "evaluation.per_run",
    "evaluation.max_rows",
    "checkpoint.every_steps",
    "checkpoint.keep",
    "data.cache_dir",
    "distil.teacher",  # its weights may not change (runs/teacher.py)
    "memory_gib",
    "mesh.data",
    "mesh.fsdp",
    "mesh.tensor",
)
