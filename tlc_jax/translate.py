"""`python -m tlc_jax.translate RUN < in > out`: translates lines, in order."""

from __future__ import annotations

import contextlib
import dataclasses

from tlc_jax.core import cli
from tlc_jax.core.entry_point import run_command


@dataclasses.dataclass(frozen=True)
class Translate:
    """Translate standard input line by line to standard output; progress is on standard error."""

    checkpoint: cli.Model[str]
    beams: int = 4
    """Hypotheses that are kept alive; 1 is greedy."""
    alpha: float = 0.6
    """Length penalty: scores are log probabilities over ((5 + length) / 6) ** alpha."""
    n_best: int | None = None
    """Write this many hypotheses of each line, as `number ||| translation ||| score`; None: only the best.
    The number of lines with fewer is printed at the end."""


def main(argv: list[str] | None = None) -> None:
    args = cli.parse_plain(Translate, argv)
    from tlc_jax.core.console import SafeConsole
    from tlc_jax.inference.line_stream import standard_input, standard_output
    from tlc_jax.inference.translator import translate_stream

    lines, write = standard_input(), standard_output()
    options = {"beams": args.beams, "alpha": args.alpha, "best": args.n_best}
    with contextlib.suppress(BrokenPipeError):  # the reader has enough
        translate_stream(args.checkpoint, lines, write, SafeConsole(stderr=True), **options)


if __name__ == "__main__":
    run_command(main)
