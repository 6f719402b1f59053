"""Removal of whole heads and feed-forward units, which leaves a smaller model."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from tlc_jax.compression.steps import Model, Step
from tlc_jax.compression.structured import keep_units, largest_units
from tlc_jax.config.validation import check
from tlc_jax.core.errors import UserError


@dataclass(frozen=True)
class KeepUnits(Step):
    """The heads and units of the largest magnitude stay, so many of each layer."""

    heads: int | None = None
    """None: all."""
    feed_forward_size: int | None = None
    """None: all."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("heads", "feed_forward_size"):
            count = getattr(self, name)
            check(count is None or count > 0, f"{name} must be positive, not {count}")

    @classmethod
    def examples(cls) -> tuple[Step, ...]:
        return cls(heads=2), cls(heads=1, feed_forward_size=16)

    def shrink(self, model: Model) -> Model:
        counts = {"num_heads": self.heads, "feed_forward_size": self.feed_forward_size}
        wanted = [(kind, counts.get(kind.field) or kind.count) for kind in model.units]
        if all(count == kind.count for kind, count in wanted):
            return model
        if model.masks:
            raise UserError(
                "heads and units cannot be removed from a model with pruned weights: remove them "
                "before pruning"
            )
        kept = [(kind, largest_units(model.params, kind, count)) for kind, count in wanted]
        params, config = keep_units(model.params, model.config, kept)
        units = tuple(dataclasses.replace(kind, count=count) for kind, count in wanted)
        return Model(params, config, units)
