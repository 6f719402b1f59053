"""The console command: `tlc train ...` is `python -m tlc_jax.train ...`.

Exit codes of every command: 0 done; 1 a result could not be saved, a checked condition does not hold, or a
bug; 2 the input is wrong; 75 interrupted after saving, so that the same command resumes.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

from tlc_jax.checks import incomplete
from tlc_jax.core.entry_point import run_command
from tlc_jax.core.invocation import command

try:
    from tlc_jax.core import cli
except ImportError as error:
    incomplete.answer(error)

COMMANDS = {
    "prepare": "get a data set, in the formats that the other commands read",
    "train": "train a model, or resume a run",
    "evaluate": "the metrics of a run or an artifact, beside its baselines",
    "predict": "labels of new texts, line by line",
    "translate": "translate lines of text",
    "compress": "prune and quantize a model, and write it as packed bytes",
    "inspect": "show what an artifact contains",
    "diff": "show in which tensors two models differ",
    "export": "write a run or an artifact for other programs",
    "bench": "measure the time of an update, or compile it for TPUs",
    "report": "write the page of a study or of runs, or measure errors of compression",
    "study": "train, finetune and compress several sizes, and compare them",
    "plan": "say which size to train, and how to compress it, for a time, a device and bytes",
    "doctor": "check this machine before a run",
}


def main() -> None:
    run_command(lambda: _run(sys.argv[1:]))


def _run(arguments: list[str]) -> None:
    if not arguments or arguments[0] not in COMMANDS:
        prog = command("").strip()
        text = f"Train Large, Then Compress in JAX. {prog} COMMAND --help shows the options of a command."
        cli.choose(prog, {name: _options(name) for name in COMMANDS}, arguments, text, COMMANDS)
    importlib.import_module(f"tlc_jax.{arguments[0]}").main(arguments[1:])


def _options(name: str) -> Any:
    """The dataclass of a command, or those of the commands under its name."""
    members = vars(importlib.import_module(f"tlc_jax.{name}"))
    return members.get(name.upper()) or members[name.capitalize()]


if __name__ == "__main__":
    main()
