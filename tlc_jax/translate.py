"""`python -m tlc_jax.translate --checkpoint RUN < in > out`: translates lines, in order."""

from __future__ import annotations

import dataclasses
import sys

from tlc_jax.core import cli
from tlc_jax.core.errors import run_door


@dataclasses.dataclass(frozen=True)
class Translate:
    """Translate standard input line by line to standard output; progress is on standard error."""

    checkpoint: str
    """A run directory, RUN@lastN for the mean of its newest N checkpoints, RUN@MARK, or an artifact."""
    beams: int = 4
    """Hypotheses that are kept alive; 1 is greedy."""
    alpha: float = 0.6
    """Length penalty: scores are log probabilities over ((5 + length) / 6) ** alpha."""
    n_best: int | None = None
    """Write so many hypotheses of each line, as `number ||| translation ||| score`; None: only the best."""


def main(argv: list[str] | None = None) -> None:
    args = cli.parse_plain(Translate, argv)
    from rich.console import Console

    from tlc_jax.core.errors import SaveFailed, UserError, discard_output
    from tlc_jax.inference.translate import lines_of, translate_stream, writer_to

    if sys.stdin is None or sys.stdout is None:
        raise UserError("standard input or output is closed: give lines with < FILE and a place with > FILE")
    lines, write = lines_of(sys.stdin.fileno()), writer_to(sys.stdout.buffer)
    options = {"beams": args.beams, "alpha": args.alpha, "best": args.n_best}
    try:
        translate_stream(args.checkpoint, lines, write, Console(stderr=True), **options)
    except (BrokenPipeError, SaveFailed) as error:
        discard_output()
        if isinstance(error, SaveFailed):
            raise  # else nobody reads any more, which is no fault


if __name__ == "__main__":
    run_door(main)
