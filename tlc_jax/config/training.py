"""How a run is trained: optimizer, schedule, budget, evaluation, checkpoints, mesh."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, Optional

from tlc_jax.config.marks import kept_marks
from tlc_jax.config.validation import check, check_fields, check_types

BudgetMeasure = Literal["steps", "training_seconds", "tokens"]


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW as fairseq trains RoBERTa: decoupled decay, on every parameter by default."""

    learning_rate: float = 1.5e-3
    """Peak (paper table 1: 1.5e-3 at batch 8192)."""
    beta1: float = 0.9
    """Decay rate of the mean of gradients."""
    beta2: float = 0.98
    """Decay rate of the mean of squared gradients."""
    epsilon: float = 1e-6
    """Added to the root of the mean of squared gradients."""
    epsilon_form: Literal["fairseq", "optax"] = "fairseq"
    """'fairseq' (and Tensor2Tensor): epsilon is added before the bias of the mean is corrected, which makes
    early updates of small gradients smaller; 'optax' (and PyTorch): after that."""
    weight_decay: float = 0.01
    """Share of a parameter that an update at learning rate 1 removes."""
    decayed: Literal["all", "matrices"] = "all"
    """'all' parameters decay (fairseq), or only 'matrices': neither biases nor normalisation scales."""
    layer_decay: float = 1.0
    """Factor of the learning rate from each layer of an encoder to the one below, such as 0.9 in finetuning:
    the last layer has it once, the first as often as there are layers, the embeddings once more; heads and
    BERT's pooler have the whole rate."""

    def __post_init__(self) -> None:
        check_types(self)
        numbers = ("learning_rate", "epsilon")
        check_fields(self, "optimizer.", numbers, lambda x: 0 < x < math.inf, "positive")
        check_fields(self, "optimizer.", ("beta1", "beta2"), lambda rate: 0 <= rate < 1, "in [0, 1)")
        check_fields(self, "optimizer.", ("layer_decay",), lambda x: 0 < x <= 1, "above 0 and at most 1")
        check(self.weight_decay >= 0, f"optimizer.weight_decay must not be negative, not {self.weight_decay}")


@dataclass(frozen=True)
class ScheduleConfig:
    """Linear warm-up, then linear decay to zero at the end of the budget that the schedule follows.

    With a `cooldown` the rate stays at its peak until the decay begins (warm-up, stable, decay). With
    `noam_steps` it is Tensor2Tensor's schedule, which has no end.
    """

    follows: BudgetMeasure = "steps"
    """Which budget the schedule is stretched over; that budget must be set."""
    warmup: float = 0.06
    """Share of the budget spent on warm-up."""
    warmup_steps: Optional[int] = None
    """Updates of warm-up, whatever the budget, in place of a share of it: runs of any length and branches of
    one trunk then begin alike."""
    cooldown: Optional[float] = None
    """Share of the budget, at its end, over which the rate falls to zero; None: all after the warm-up. 0:
    it never falls, which makes the run a trunk: a branch ends at each mark (--branch-from)."""
    noam_steps: Optional[int] = None
    """Warm up for this many updates, then decay with the inverse square root of their number (T2T: 8000).
    The rate is optimizer.learning_rate (T2T: 2.0) x min(1, n / noam_steps) / sqrt(max(n, noam_steps) x
    hidden_size)."""
    local_attention_tokens: Optional[int] = None
    """Tokens of training over which the attention window of a masked language model widens from 3 tokens on
    each side to the whole row; None: no window. Small models learn to attend to neighbours several times
    sooner (docs/local_attention.md)."""
    local_attention: float = 0.0
    """The same as a share of the budget, which a resumed run keeps that began with it. Of a budget in seconds
    it is another number of tokens for each size: new runs take local_attention_tokens."""

    def __post_init__(self) -> None:
        check_types(self)
        shares = ("warmup", "local_attention")
        check_fields(self, "schedule.", shares, lambda share: 0 <= share < 1, "in [0, 1)")
        counts = ("warmup_steps", "noam_steps", "local_attention_tokens")
        check_fields(self, "schedule.", counts, lambda count: count >= 1, "at least 1")
        check(
            self.local_attention_tokens is None or self.local_attention == 0,
            "schedule.local_attention_tokens takes the place of schedule.local_attention: drop that",
        )
        check(
            self.warmup_steps is None or (self.warmup == 0 and self.noam_steps is None),
            "schedule.warmup_steps takes the place of schedule.warmup and noam_steps: set warmup 0 and no "
            "noam_steps",
        )
        cooldown, noam = self.cooldown, self.noam_steps
        check(
            noam is None or (cooldown is None and self.warmup == 0),
            "schedule.noam_steps has its own warm-up and no end: set schedule.warmup 0 and no cooldown",
        )
        check(
            cooldown is None or 0 <= cooldown <= 1 - self.warmup + 1e-9,
            f"schedule.cooldown must be in [0, 1 - schedule.warmup], not {cooldown}",
        )


@dataclass(frozen=True)
class BudgetConfig:
    """The run ends at the first limit reached; at least one must be set."""

    steps: Optional[int] = None
    """Optimizer updates."""
    training_seconds: Optional[float] = None
    """Seconds of training, not counting compilation, evaluation and saving."""
    tokens: Optional[int] = None
    """Tokens of the batches, as `tokens` in metrics.jsonl counts them."""

    def __post_init__(self) -> None:
        check_types(self)
        check_fields(self, "budget.", vars(self), lambda limit: limit > 0, "positive")


@dataclass(frozen=True)
class EvaluationConfig:
    every_steps: Optional[int] = 1000
    """Updates between evaluations on held-out rows; the end is always evaluated. None: not by steps."""
    per_run: Optional[int] = None
    """Evaluations over the whole budget, evenly spread, whatever its length; beside those of every_steps."""
    max_rows: Optional[int] = None
    """Evaluate on this many held-out rows, evenly spread; None: on all."""
    stop_at: Optional[float] = None
    """End the run once an evaluation reaches this value of the task's primary metric: an accuracy or Matthews
    correlation of a classification at or above it, nats per byte of other tasks at or below it. The model is
    evaluated before the first update too."""

    def __post_init__(self) -> None:
        check_types(self)
        check_fields(self, "evaluation.", ("every_steps", "per_run", "max_rows"), lambda n: n > 0, "positive")
        check_fields(self, "evaluation.", ("stop_at",), math.isfinite, "finite")


@dataclass(frozen=True)
class CheckpointConfig:
    every_steps: Optional[int] = 1000
    """Updates between checkpoints; one is always saved at the end and when interrupted. None: only then."""
    keep: int = 2
    """Number of newest checkpoints that are kept."""
    marks: str = ""
    """Keep a checkpoint at each of these, separated by commas: shares of the budget that the schedule follows
    (1/16), epochs of the data (epoch3). RUN@MARK names it for --branch-from and for evaluate."""
    best: bool = False
    """Also keep the checkpoint of the best evaluation by the task's primary metric, of equals the first:
    RUN@best. The model is then evaluated before the first update too."""

    def __post_init__(self) -> None:
        check_types(self)
        check(self.every_steps is None or self.every_steps > 0, "checkpoint.every_steps must be positive")
        check(self.keep >= 2, f"checkpoint.keep must be at least 2, not {self.keep}")
        kept_marks(self.marks, trunk=True)


@dataclass(frozen=True)
class DistilConfig:
    """Learning from the predictions of a trained model beside the data (Hinton et al. 2015; for translation
    word by word, Kim and Rush 2016, 3.1)."""

    teacher: Optional[str] = None
    """A run, RUN@MARK, RUN@lastN or an artifact with the same tokenizer, whose predictions are learnt; None:
    only the data are. A resumed run may name another path to the same weights."""
    weight: float = 0.5
    """Share w of the teacher in the loss: (1 - w) x the task's loss + w x T^2 x the cross-entropy with the
    teacher's probabilities at the temperature T."""
    temperature: float = 1.0
    """T, which the logits of both are divided by: above 1 the teacher's less likely answers count more."""
    hidden_weight: float = 0.0
    """This times the mean squared difference of the hidden states of all layers is added to the loss; the
    teacher has as wide layers then. Of a deeper one, layers at equal distances are learnt, among them the
    last."""

    def __post_init__(self) -> None:
        check_types(self)
        check_fields(self, "distil.", ("weight",), lambda share: 0 <= share <= 1, "in [0, 1]")
        check_fields(self, "distil.", ("temperature",), lambda t: 0 < t < math.inf, "positive and finite")
        hidden = ("hidden_weight",)
        check_fields(self, "distil.", hidden, lambda x: 0 <= x < math.inf, "finite and not negative")

    @property
    def learns(self) -> bool:
        """Whether the teacher has a say."""
        return self.weight > 0 or self.hidden_weight > 0


@dataclass(frozen=True)
class MeshConfig:
    """How devices share the work; a resumed run may change it."""

    data: Optional[int] = None
    """Groups of devices that rows are split over; None: as many as the other two allow."""
    fsdp: int = 1
    """Devices that split rows and also parameters, gradients and optimizer state (ZeRO-3)."""
    tensor: int = 1
    """Devices that split the attention heads and the feed-forward units of each layer."""

    def __post_init__(self) -> None:
        check_types(self)
        check_fields(self, "mesh.", vars(self), lambda size: size >= 1, "at least 1")
