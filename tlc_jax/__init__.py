"""tlc_jax: Train Large, Then Compress (Li, Wallace et al., 2020) in JAX.

    import tlc_jax

    model = tlc_jax.load("runs/sst2")
    model.predict(["a fine film"])

Nothing is imported before it is used (tlc_jax/api.py).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tlc_jax.api import Model, Prediction, UserError, compress_folder, load

__version__ = "0.1.0"
__all__ = ["Model", "Prediction", "UserError", "compress_folder", "load"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(importlib.import_module("tlc_jax.api"), name)
    raise AttributeError(f"module 'tlc_jax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
