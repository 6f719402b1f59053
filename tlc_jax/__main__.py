"""The console command: `tlc train ...` is `python -m tlc_jax.train ...`."""

from __future__ import annotations

import importlib
import sys

from tlc_jax.core.entry_point import run_command
from tlc_jax.core.errors import EXIT_USER

DOORS = {
    "train": "train a model, or go on with a run",
    "evaluate": "perplexity, accuracy or BLEU of a run or an artifact, beside its baselines",
    "translate": "translate lines of text",
    "compress": "prune and quantize a run, and write it with real bits",
    "inspect": "what is in an artifact",
    "diff": "in which tensors two models differ",
    "export": "write a run or an artifact for other programs",
    "bench": "measure the time of an update",
    "report": "curves of runs, over measured step times too",
    "study": "train, finetune and compress several sizes, and compare them",
}


def main() -> None:
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in ("-h", "--help"):
        print("usage: tlc COMMAND [options]; tlc COMMAND --help shows a command's options\n")
        print("\n".join(f"  {door:10s} {what}" for door, what in DOORS.items()))
    elif name not in DOORS:
        print(f"error: tlc has no command {name}; it has {', '.join(DOORS)}", file=sys.stderr)
        sys.exit(EXIT_USER)
    else:
        door = importlib.import_module(f"tlc_jax.{name}")
        run_command(lambda: door.main(sys.argv[2:]))


if __name__ == "__main__":
    main()
