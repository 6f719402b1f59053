"""The results of a study: one JSON object a line, each written once. Figures are drawn from it only."""

from __future__ import annotations

import json
from typing import Any

from tlc_jax.core.place import Place, TextLog

Result = dict[str, Any]


class ResultStore:
    """Appends results; a line that a killed process left unfinished is dropped."""

    def __init__(self, path: Place):
        text = path.read_text() if path.exists() else ""
        whole = text[: text.rfind("\n") + 1]
        self.results: list[Result] = [json.loads(line) for line in whole.splitlines()]
        self._log = TextLog(path, whole)

    def add(self, result: Result) -> None:
        self._log.add(json.dumps(result) + "\n")
        self._log.flush()
        self.results.append(result)

    def find(self, **wanted: Any) -> list[Result]:
        """Results whose fields have these values, in the order in which they came."""
        return [r for r in self.results if all(r.get(name) == value for name, value in wanted.items())]
