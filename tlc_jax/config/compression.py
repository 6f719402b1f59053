"""Every option of a compression."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import re
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, Literal, Optional

from tlc_jax.config.compression_aware import MovementConfig
from tlc_jax.config.quantization import QuantSpec, Rule
from tlc_jax.config.validation import check, check_fields, check_types


@dataclass(frozen=True)
class RecoveryConfig:
    """Pruning in rounds, each followed by finetuning until the model has recovered (paper 4.3). A round ends
    with the parameters of its best evaluation."""

    levels: tuple[float, ...] = (0.15, 0.30, 0.45, 0.60, 0.75, 0.90)
    """Shares of the prunable weights that are zero after each round, up to the recipe's sparsity."""
    target: float = 0.995
    """A round ends when the primary metric on the tuning set is back at this share of its value before
    pruning. Models are evaluated before they are finetuned, which may already be enough."""
    max_epochs: float = 1.0
    """A round ends after so many epochs at the latest."""
    evaluate_every: int = 100
    """Updates between evaluations."""
    learning_rate: Optional[float] = None
    """Peak learning rate of each round; None: that of the run."""
    control: bool = False
    """Also train the dense model, round by round, for as many updates at the same batch size and learning
    rate, and report its metric beside that of the pruned model: recovery is further training, too."""
    distil_weight: float = 0.0
    """Share of a teacher in the loss of each round, as distil.weight is in training: the model before the
    first round, whose predictions are learnt beside the data. 0: only the data are. The dense model of
    `control` has no teacher."""
    distil_temperature: float = 1.0
    """Of this teacher, as distil.temperature is in training."""
    distil_hidden_weight: float = 0.0
    """Of this teacher, as distil.hidden_weight is in training."""
    quantization_aware: bool = False
    """Round the weights of every forward pass to the codes that the artifact would have, with gradients
    straight through: the weights learn what survives rounding. Without a sparsity there is one round, which
    prunes nothing. Each update looks for all ranges, which takes many times longer with the range mse."""

    movement: Optional[MovementConfig] = None
    """In a config document: prune by scores that are learnt while the model is finetuned, in one round of
    `max_epochs`, instead of by magnitude in `levels`."""

    def __post_init__(self) -> None:
        check_types(self)
        levels = (0.0, *self.levels, 1.0)
        check(
            all(a < b for a, b in itertools.pairwise(levels)),
            f"recovery.levels must rise from above 0 to below 1, not {self.levels}",
        )
        limits = ("target", "max_epochs", "evaluate_every")
        check_fields(self, "recovery.", limits, lambda limit: limit > 0, "positive")
        check_fields(self, "recovery.", ("distil_weight",), lambda share: 0 <= share <= 1, "in [0, 1]")
        temperature = ("distil_temperature",)
        check_fields(self, "recovery.", temperature, lambda t: 0 < t < math.inf, "positive and finite")
        hidden = ("distil_hidden_weight",)
        check_fields(self, "recovery.", hidden, lambda x: 0 <= x < math.inf, "finite and not negative")


@dataclass(frozen=True)
class CompressionStep:
    """The options of any step of compression/methods/."""

    def recorded(self) -> dict[str, Any]:
        """The name of the step and its options, as the manifest of an artifact records them."""
        return {"step": type(self).__name__, **json.loads(json.dumps(dataclasses.asdict(self)))}


@dataclass(frozen=True)
class CompressConfig:
    """One compression: what is pruned, what is quantized, how it is written. The options are the short form
    of common recipes (compression/methods/)."""

    bits: int = 8
    """1 to 8, or 32: not quantized."""
    sparsity: float = 0.0
    """Share of the prunable weights (all matrices but a classification's head) that become zero."""
    granularity: str = "tensor"
    """The weights that share one range: tensor (paper), row, or group:N, N neighbours in a row; choose row or
    group:N below 8 bits. Where N does not divide the rows of a tensor, each of its rows has one range."""
    range: str = "minmax"
    """minmax (paper), mse (least squares), or percentile:P; choose mse below 8 bits."""
    zero: Literal["nudged", "float", "symmetric"] = "nudged"
    """nudged: zero has a code, which other tools require and which makes rows and groups smaller; float: the
    range stays as it is (paper), better at 2 bits with mse. At 3 bits and more neither is better
    (docs/results/errors.md). symmetric: ranges have zero in the middle, and its code is not stored."""
    range_dtype: Literal["float32", "bfloat16"] = "float32"
    """The type in which ranges are stored: bfloat16 makes groups smaller, at 4 bits and group:64 by a
    twentieth of the file."""
    matrices_only: bool = False
    """Leave vectors (biases, normalisation) in float32, a fraction of a percent of the weights; the paper
    quantizes every parameter."""
    ignore: Optional[str] = None
    """A regular expression: tensors whose whole names match stay as they are, in float32 and whole, such as
    '.*/token_embedding|classification_head/.*'."""
    scope: Literal["global", "layer", "tensor"] = "global"
    """Prune the smallest weights of all tensors together (paper), of each layer, or of each tensor."""
    max_tensor_sparsity: Optional[float] = None
    """The largest share that any tensor may lose; others lose more instead."""
    heads: Optional[int] = None
    """The number of attention heads to keep in each layer, those of the largest magnitude; the model gets
    smaller. None: all."""
    feed_forward_size: Optional[int] = None
    """The number of units to keep in each feed-forward layer. None: all."""
    target_mb: Optional[float] = None
    """The size that the weights' file may have, in megabytes (10^6 bytes), with the coding plain. In place of
    bits, granularity and range, bits (2 to 8), one of five granularities and a sparsity are chosen for each
    tensor that neither `rules` nor `steps` decide, so that the model's predictions change least; with --hf,
    which has no data, so that the weights change least."""
    max_drop: Optional[float] = None
    """The loss of accuracy that is allowed, such as 0.005 for half a percent of all examples. In place of one
    number of bits, each from `bits` down to 1 is tested on the tuning set, and the fewest are taken that
    certainly lose no more."""
    mixed_bits: bool = False
    """With `max_drop`: in place of fewer and fewer bits for all tensors, test mixes of them, each of nine
    tenths of the bytes before."""
    confidence: float = 0.95
    """How certain `max_drop` is: with 0.95, more is lost in at most 5 of 100 such compressions."""
    calibration_text: Optional[str] = None
    """A file with a text in each line, .gz and .zst too, for steps that need calibration data: it takes the
    place of the run's training data."""
    rules: tuple[Rule, ...] = ()
    """In a config document: how the tensors that they match are quantized and pruned. The other options hold
    for the rest."""
    recovery: Optional[RecoveryConfig] = None
    """Prune in rounds with finetuning between them, up to `sparsity`; None: at once, without finetuning."""
    steps: tuple[CompressionStep, ...] = ()
    """In a config document: further steps of compression/methods/, after pruning and before quantization;
    their options are --steps.0.NAME, --steps.1.NAME ..."""
    coding: Literal["plain", "brotli", "zstd"] = "plain"
    """How codes, masks and floats are written. plain: packed bits, which numpy reads and which load fastest;
    brotli: in about as many bytes as the entropy of the codes allows, 5 to 45 % fewer, in minutes for a large
    model (docs/usage/export.md has the few lines that read either); zstd: a little larger."""

    def __post_init__(self) -> None:
        check_types(self)
        self.spec  # noqa: B018, checks itself
        check_fields(self, "", ("ignore",), _is_pattern, "a regular expression")
        check_fields(self, "", ("sparsity",), lambda share: 0 <= share < 1, "in [0, 1)")
        check_fields(self, "", ("max_tensor_sparsity",), lambda share: 0 < share <= 1, "in (0, 1]")
        check_fields(self, "", ("target_mb",), lambda size: size > 0, "positive")
        check_fields(self, "", ("max_drop",), lambda drop: 0 < drop < 1, "in (0, 1)")
        check_fields(self, "", ("confidence",), lambda share: 0.5 <= share < 1, "in [0.5, 1)")
        check(
            self.max_drop is None or (self.target_mb is None and self.recovery is None and self.bits <= 8),
            "max_drop chooses among 8 bits and fewer, without a byte budget and without recovery: omit one "
            "of them (a round of recovery is a run in --workdir, which can be compressed with max_drop)",
        )
        check(
            not self.mixed_bits or self.max_drop is not None,
            "mixed_bits is for max_drop: give --max-drop, or --target-mb for one size",
        )
        self._check_recovery()
        prunes = self.sparsity > 0 or self.target_mb is not None or self.rules or self.steps
        check(
            bool(prunes) or (self.scope == "global" and self.max_tensor_sparsity is None),
            "scope and max_tensor_sparsity say how to prune, and nothing is pruned: give --sparsity",
        )

    def _check_recovery(self) -> None:
        if self.recovery is None:
            return
        movement = self.recovery.movement
        soft = movement is not None and movement.soft
        check(
            self.sparsity > 0 or soft or (self.recovery.quantization_aware and movement is None),
            "recovery prunes in rounds up to the sparsity, which is 0: give --sparsity",
        )
        check(
            self.sparsity == 0 or not soft,
            f"recovery.movement.soft finds a sparsity by its penalty, and the sparsity is {self.sparsity}: "
            "give one of them",
        )
        check(
            movement is None or self.max_tensor_sparsity is None,
            "max_tensor_sparsity is for pruning by magnitude, and recovery.movement prunes by scores: omit "
            "one of them",
        )
        if self.recovery.quantization_aware:
            check(
                self.bits <= 8 or bool(self.rules),
                "recovery.quantization_aware rounds weights to bits, which are 32: give --bits",
            )
            check(
                self.target_mb is None,
                "recovery.quantization_aware rounds weights to bits that are known before the training, and "
                "target_mb chooses them after it: omit one of them",
            )

    @property
    def spec(self) -> QuantSpec:
        """How tensors are quantized that no rule matches."""
        return QuantSpec(self.bits, self.granularity, self.range, self.zero, self.range_dtype)

    def recorded(self) -> dict[str, Any]:
        """The options as the manifest of an artifact records them; steps have their names, and of a text the
        name of its file is enough."""
        options: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        if self.calibration_text is not None:
            options["calibration_text"] = PurePath(self.calibration_text).name
        del options["steps"]
        return {**options, "steps": [step.recorded() for step in self.steps]} if self.steps else options


def _is_pattern(text: str) -> bool:
    try:
        re.compile(text)
    except re.error:
        return False
    return True


OF_FOLDERS = CompressConfig(granularity="group:64", range="mse", matrices_only=True)
"""The default options of --hf (docs/results/minilm.md)."""
