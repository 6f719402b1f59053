"""Quantization-aware training: the forward pass computes with rounded weights, and the weights that are
trained keep all digits (straight-through rounding: Bengio et al. 2013, arXiv 1308.3432; of networks, Jacob et
al. 2018, arXiv 1712.05877, 3).

The gradient with respect to the rounded weights is taken for that of the trained ones. Rounded weights are
what an artifact with the same rules would hold: the same ranges, which follow the weights in each update, and
the same zeros, matrix by matrix of one layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from tlc_jax.compression.quantize import quantize_tensor
from tlc_jax.compression.select import divided, holds_weights, select
from tlc_jax.config.compression_aware import CompressionAwareConfig
from tlc_jax.config.quantization import QuantSpec
from tlc_jax.core.leaf import Masks
from tlc_jax.core.stacked import join, shapes_of, split, tensor_names
from tlc_jax.core.tree import Params, map_with_path


@dataclass(frozen=True)
class Rounding:
    """How each tensor that is rounded is quantized, by name."""

    specs: dict[str, QuantSpec]

    @classmethod
    def of(cls, config: CompressionAwareConfig, params: Params) -> Rounding | None:
        """What the rules say of these parameters, which may be abstract; None where they round none.
        UserError for a rule without a tensor."""
        if not config.rules:
            return None
        shapes = {name: x for name, x in shapes_of(params).items() if holds_weights(x)}
        specs = dict[str, QuantSpec]()
        for name, rule in select(shapes, config.rules).items():
            if (spec := divided(name, shapes[name].shape, rule).quant) is not None and spec.bits <= 8:
                specs[name] = spec
        return cls(specs) if specs else None

    def seen(self, params: Params, masks: Mapping[str, Any]) -> Params:
        """The parameters that a forward pass computes with; traced. `masks` are those of parameters."""
        return map_with_path(lambda path, x: self._rounded(path, x, masks.get(path)), params)

    def written(self, params: Params, masks: Masks) -> Params:
        """What an artifact of these parameters holds, bit for bit, with their shardings. `masks` are those of
        tensors. Not traced: other programs add up sums in another order."""
        tensors = split(jax.device_get(params))
        for name, spec in self.specs.items():
            tensors[name] = quantize_tensor(name, tensors[name], spec, masks.get(name)).dense()
        return jax.device_put(join(tensors), jax.tree.map(lambda x: x.sharding, params))

    def _rounded(self, path: str, x: Any, mask: Any) -> Any:
        names = tensor_names(path, x)
        specs = [self.specs.get(name) for name in names]

        def of_layer(name: str, spec: QuantSpec | None, x: Any, mask: Any) -> Any:
            return x if spec is None else quantize_tensor(name, x, spec, mask).dense()

        if names == [path] or not any(specs):
            return of_layer(path, specs[0], x, mask)
        if len(set(specs)) == 1:  # one program for all layers, one after the other
            return jax.lax.map(lambda layer: of_layer(names[0], specs[0], *layer), (x, mask))
        layers = [None] * len(names) if mask is None else mask
        return jnp.stack([of_layer(*each) for each in zip(names, specs, x, layers, strict=True)])
