"""Engines that take turns: each a process of its own that answers JSON lines with JSON lines."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

_REST = 0.5  # seconds


class Engine:
    """A process that does what it is asked to; `script` is a file beside this one. The package is that of
    `checkout`, if one is given; `variables` are added to its environment."""

    def __init__(
        self,
        script: str,
        *arguments: object,
        checkout: Path | None = None,
        variables: dict[str, str] | None = None,
        python: str = sys.executable,
    ):
        package = {} if checkout is None else {"PYTHONPATH": str(checkout)}
        self._process = subprocess.Popen(
            [python, Path(__file__).with_name(script), *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | package | (variables or {}),
        )

    def ask(self, order: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(order), file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        if not answer:
            sys.exit(f"{' '.join(map(str, self._process.args))} ended with {self._process.wait()}")  # type: ignore[arg-type]
        return json.loads(answer)

    def turn(self, order: dict[str, Any]) -> dict[str, Any]:
        """The same, when the engine before is at rest: its threads wait busily for more, for a while."""
        time.sleep(_REST)
        return self.ask(order)


def serve(answer: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """What such a process does until its orders end. What is printed meanwhile goes to stderr."""
    answers, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), file=answers, flush=True)
