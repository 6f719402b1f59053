"""What a step of a compression is: options, what it needs, and functions that the pipeline calls.

A new step is a frozen dataclass in a file of its own in methods/, and a line in the list there. It overrides
those of the functions below that it has something to do in:

    shrink     removes parts of a model, so that a smaller model is left
    choose     decides what is done with which tensor
    prune      decides which weights become zero
    convert    stores one tensor in another way
    remarks    says what was not done, for the user

The pipeline calls each of them for all steps in the recipe's order before it calls the next; a command prints
remarks before it converts.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from tlc_jax.compression.plain import FloatTensor
from tlc_jax.config import TransformerConfig
from tlc_jax.config.compression import CompressionStep
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


@dataclass(frozen=True)
class Step(CompressionStep):
    """One step of a recipe; its fields are its options, checked against their types."""

    leaf: ClassVar[type[Leaf] | None] = None
    """The kind of leaf that `convert` returns, if artifacts have to know one more kind for this step."""

    def __post_init__(self) -> None:
        check_types(self)

    @classmethod
    def examples(cls) -> tuple[Step, ...]:
        """Steps with the options that the conformance suite tries."""
        return (cls(),)

    @property
    def needs(self) -> Needs:
        return Needs.NOTHING

    def shrink(self, model: Model) -> Model:
        """The smaller model."""
        return model

    def choose(self, tensors: Mapping[str, Any], rules: dict[str, Rule]) -> dict[str, Rule]:
        """The rule of each tensor, given those chosen so far; tensors need only shape and dtype."""
        return rules

    def prune(self, tensors: Mapping[str, Any], rules: Mapping[str, Rule], masks: Masks) -> Masks:
        """Masks of all tensors that are pruned, given those pruned so far, which stay pruned.

        Tensors may be read from files: hold one at a time."""
        return masks

    def convert(self, name: str, tensor: FloatTensor, rule: Rule, inputs: Any) -> Leaf:
        """One tensor stored in another way, or as it is; zeros of its mask stay exact zeros. `inputs` are
        what the tensor's inputs are in the calibration data, or None."""
        return tensor

    def remarks(self, rules: Mapping[str, Rule], masks: Masks) -> Mapping[str, Sequence[str]]:
        """{what was not done, and why: the tensors}, given what `choose` and `prune` of all steps decided;
        printed with the first few names."""
        return {}


Recipe = tuple[Step, ...]
