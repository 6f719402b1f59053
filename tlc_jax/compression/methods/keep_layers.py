"""Removal of whole layers, which leaves a real model of fewer layers.

The layers that stay keep their weights and their order. 'even' takes every second of six for three, as
DistilBERT does (Sanh et al. 2019, arXiv 1910.01108, § 3); 'first' drops those nearest to the output,
which costs pretrained encoders least when they are finetuned afterwards (Sajjad et al. 2020, arXiv
2004.03844, § 5). Nothing makes up for what is missing: finetune the result.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from tlc_jax.compression.steps import Model, Step
from tlc_jax.config.validation import check
from tlc_jax.core.errors import UserError
from tlc_jax.core.stacked import tensor_names
from tlc_jax.core.tree import map_with_path


@dataclass(frozen=True)
class KeepLayers(Step):
    """So many layers stay, or those that are named; of an encoder-decoder the same of both sides."""

    count: int | None = None
    """None: all, unless `layers` names some."""
    which: Literal["even", "first"] = "even"
    """Of a count: layers at equal distances beginning with the first, or the first ones."""
    layers: tuple[int, ...] = ()
    """In place of a count: the numbers of the layers that stay, ascending from 0."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.count is None or self.count > 0, f"count must be positive, not {self.count}")
        ascending = all(a < b for a, b in zip((-1, *self.layers), self.layers, strict=False))
        check(ascending, f"layers must be ascending numbers from 0, not {self.layers}")
        check(self.count is None or not self.layers, "count and layers both say which layers stay: give one")

    @classmethod
    def examples(cls) -> tuple[Step, ...]:
        return cls(1), cls(1, "first"), cls(layers=(1,))

    def shrink(self, model: Model) -> Model:
        depth = model.config.num_layers
        kept = self.kept(depth)
        if len(kept) == depth:
            return model
        if model.masks:
            raise UserError(
                "layers cannot be removed from a model with pruned weights: remove them before pruning"
            )

        def gather(path: str, x: Any) -> Any:
            shared = tensor_names(path, x) == [path] or x.shape[0] != depth  # by all layers, or no layer's
            return x if shared else x[np.asarray(kept)]

        config = dataclasses.replace(model.config, num_layers=len(kept))
        units = (dataclasses.replace(kind, layers=min(kind.layers, len(kept))) for kind in model.units)
        return Model(map_with_path(gather, model.params), config, tuple(units))

    def kept(self, depth: int) -> tuple[int, ...]:
        """The layers that stay of so many. UserError where there are not so many."""
        count = len(self.layers) or self.count or depth
        if count == depth:
            return tuple(range(depth))  # also of a model that has lost the others already
        if count > depth or max(self.layers, default=0) >= depth:
            wanted = self.layers or f"{count}"
            raise UserError(f"the model has {depth} layers, numbered from 0: keep some of them, not {wanted}")
        if self.layers:
            return self.layers
        return tuple(i * depth // count if self.which == "even" else i for i in range(count))
