"""The results of a study: one JSON object a line, each written once. Figures are drawn from it only."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

Result = dict[str, Any]


class ResultStore:
    """Appends results; a line that a killed process left unfinished is dropped."""

    def __init__(self, path: Path):
        self._path = path
        self.results: list[Result] = []
        if path.exists():
            whole, _, torn = path.read_text().rpartition("\n")
            self.results = [json.loads(line) for line in whole.splitlines()]
            if torn:
                path.write_text(whole + "\n" if whole else "")

    def add(self, result: Result) -> None:
        with self._path.open("a") as file:
            file.write(json.dumps(result) + "\n")
        self.results.append(result)

    def find(self, **wanted: Any) -> list[Result]:
        """Results whose fields have these values, in the order in which they came."""
        return [r for r in self.results if all(r.get(name) == value for name, value in wanted.items())]
