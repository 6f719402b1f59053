"""What a step of a compression is: options, what it needs, and functions that the pipeline calls.

A new step is a frozen dataclass in a file of its own in methods/, and a line in the list there. It overrides
those of the functions below that it has something to do in:

    shrink     removes parts of a model, so that a smaller model is left
    choose     decides what is done with which tensor
    prune      decides which weights become zero
    undone     says why the step leaves a tensor alone
    convert    stores one tensor in a way of its own

The pipeline calls each of them for all steps in the recipe's order before it calls the next. At the end it
quantizes what no step has converted, as the tensor's rule says.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Integer

from tlc_jax.compression.input_statistics import InputStatistics, Statistics
from tlc_jax.compression.plain import FloatTensor
from tlc_jax.config import TransformerConfig
from tlc_jax.config.compression import CompressionStep
from tlc_jax.config.compression_aware import CompressionAwareConfig
from tlc_jax.config.quantization import Rule
from tlc_jax.config.validation import check_types
from tlc_jax.core.leaf import Leaf, Masks
from tlc_jax.core.tree import Params
from tlc_jax.core.units import UnitKind


class Needs(enum.Enum):
    """What a step takes besides the tensors."""

    NOTHING = "nothing"
    CALIBRATION = "calibration data"
    TRAINING = "training"
    SEARCH = "a search for rules"


@dataclass(frozen=True)
class Model:
    """A whole model, for steps that change its shape: `units` are what its family says can be removed,
    `masks` are of the weights that are pruned already."""

    params: Params
    config: TransformerConfig
    units: tuple[UnitKind, ...]
    masks: Masks = field(default_factory=dict)
    tokens: Integer[np.ndarray, "kept"] | None = None
    """The ids of the tokens that a corpus uses, in ascending order, for a step that `reads_tokens`."""
    keep_tokens: Callable[[Any, Any], tuple[Any, Mapping[str, Any]]] | None = None
    """That of its family (models/family.py)."""


@dataclass(frozen=True)
class Step(CompressionStep):
    """One step of a recipe; its fields are its options, checked against their types."""

    leaf: ClassVar[type[Leaf] | None] = None
    """The kind of leaf that `convert` returns; None where the step does not convert."""
    reads_tokens: ClassVar[bool] = False
    """Whether `shrink` takes the tokens of a corpus (`Model.tokens`)."""

    def __post_init__(self) -> None:
        check_types(self)

    @classmethod
    def examples(cls) -> tuple[Step, ...]:
        """Steps with the options that the conformance suite tries."""
        return (cls(),)

    @property
    def needs(self) -> Needs:
        return Needs.NOTHING

    def learnt(self) -> CompressionAwareConfig:
        """What the training of a step that needs it learns to prune; by default nothing."""
        return CompressionAwareConfig()

    def shrink(self, model: Model) -> Model:
        """The smaller model."""
        return model

    def choose(self, tensors: Mapping[str, Any], rules: dict[str, Rule]) -> dict[str, Rule]:
        """The rule of each tensor, given those chosen so far; tensors need only shape and dtype."""
        return rules

    def prune(
        self, tensors: Mapping[str, Any], rules: Mapping[str, Rule], masks: Masks, inputs: Statistics
    ) -> Masks:
        """Masks of all tensors that are pruned, given those pruned so far, which stay pruned. `inputs` has
        the statistics of tensors' inputs, for a step that needs calibration data.

        Tensors may be read from files, and statistics take time and memory: hold one at a time."""
        return masks

    def undone(self, name: str, tensor: Any, rule: Rule, mask: Any) -> str:
        """What the step does not do to a tensor, and why, given its shape, and what `choose` and `prune` of
        all steps decided; empty where there is nothing to say. It is printed once for all tensors of one
        reason, and recorded in the manifest."""
        return ""

    def convert(self, name: str, tensor: FloatTensor, rule: Rule, inputs: InputStatistics | None) -> Leaf:
        """One tensor stored in a way of the step's own, or `tensor` itself; zeros of its mask stay exact
        zeros. `inputs` are the statistics of its inputs, where these are known."""
        return tensor


Recipe = tuple[Step, ...]
