"""JSON that every parser accepts: numbers that are not finite become null."""

from __future__ import annotations

import json
import math
from typing import Any


def json_text(value: Any) -> str:
    """The value as one line of JSON."""
    return json.dumps(_finite(value), allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: _finite(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return value
