"""The console command: `tlc train ...` runs `python -m tlc_jax.train ...`.

Exit codes of every command: 0 done; 1 a result could not be saved, a checked condition does not hold, or a
bug; 2 the input is wrong; 75 interrupted after saving, so that the same command resumes.
"""

from __future__ import annotations

import importlib
import sys

from tlc_jax.core.entry_point import run_command
from tlc_jax.core.errors import UserError

COMMANDS = {
    "train": "train a model, or resume a run",
    "evaluate": "the metrics of a run or an artifact, beside its baselines",
    "predict": "labels of new texts, line by line",
    "translate": "translate lines of text",
    "compress": "prune and quantize a model, and write it as packed bytes",
    "inspect": "show what an artifact contains",
    "diff": "show in which tensors two models differ",
    "export": "write a run or an artifact for other programs",
    "bench": "measure the time of an update, or compile it for TPUs",
    "report": "draw the curves of runs, or measure errors of compression",
    "study": "train, finetune and compress several sizes, and compare them",
}


def main() -> None:
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in ("-h", "--help"):
        print("usage: tlc COMMAND [options]; tlc COMMAND --help shows the options of a command\n")
        print("\n".join(f"  {command:10s} {purpose}" for command, purpose in COMMANDS.items()))
        print("\nexit codes: 0 done, 1 failed, 2 wrong input, 75 interrupted (the same command resumes)")
    else:
        run_command(lambda: _run(name, sys.argv[2:]))


def _run(name: str, arguments: list[str]) -> None:
    if name not in COMMANDS:
        raise UserError(f"tlc has no command {name}; it has {', '.join(COMMANDS)}")
    importlib.import_module(f"tlc_jax.{name}").main(arguments)


if __name__ == "__main__":
    main()
