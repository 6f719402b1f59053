"""tlc_jax: Train Large, Then Compress (Li, Wallace et al., 2020) in JAX.

    import tlc_jax

    model = tlc_jax.load("runs/sst2")
    model.predict(["a fine film"])

Nothing is imported before it is used (`api.py`; `__init__.pyi` has the types).
"""

import importlib
from typing import Any

__version__ = "0.1.0"
_HOMES = {
    "Model": "api",
    "Prediction": "inference.text_classifier",
    "UserError": "core.errors",
    "compress_folder": "api",
    "load": "api",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"tlc_jax.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'tlc_jax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
