"""JSON that every parser accepts."""

from __future__ import annotations

import json
import math

import pytest

from tlc_jax.core.json_text import json_text


def test_numbers_that_are_not_finite_are_null() -> None:
    values = {"a": math.nan, "b": [math.inf, 1.0, (2, -math.inf)], "c": {"d": math.nan, "e": None}}
    expected = {"a": None, "b": [None, 1.0, [2, None]], "c": {"d": None, "e": None}}
    assert json.loads(json_text(values), parse_constant=pytest.fail) == expected
