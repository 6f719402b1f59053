"""Rows of measurements, from which tables and figures are made."""

from __future__ import annotations

from typing import Any

Result = dict[str, Any]


class Results:
    """Results in the order in which they were made."""

    def __init__(self, results: list[Result]):
        self.results = results

    def find(self, **fields: Any) -> list[Result]:
        """The results whose fields have these values."""
        return [r for r in self.results if all(r.get(name) == value for name, value in fields.items())]
