"""The old form of sizes, until all callers ask `Compressed.sizes()`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tlc_jax.compression.plain import plain
from tlc_jax.core.leaf import Leaf
from tlc_jax.core.sizes import Sizes
from tlc_jax.core.stacked import Tensors

Account = Sizes


def account(tensors: Tensors, masks: Mapping[str, Any]) -> Sizes:
    return sum((account_tensor(x, masks.get(name)) for name, x in tensors.items()), Sizes())


def account_tensor(x: Any, mask: Any = None) -> Sizes:
    return (x if isinstance(x, Leaf) else plain(x, mask)).sizes()
