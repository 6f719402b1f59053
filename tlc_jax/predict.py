"""`python -m tlc_jax.predict RUN < in > out`: labels of new texts, in order."""

from __future__ import annotations

import contextlib
import dataclasses

from tlc_jax.core import cli
from tlc_jax.core.entry_point import run_command


@dataclasses.dataclass(frozen=True)
class Predict:
    """Classify standard input line by line: on standard output a label and the probability of each class,
    with tabs between them, below a line that names the columns. Progress is on standard error."""

    checkpoint: cli.Model[str]
    pairs: bool = False
    """Each line holds two texts with a tab between them, as the model was trained on."""
    json: bool = False
    """Write a JSON object for each line, {"label": ..., "probabilities": {...}}, and no names of columns."""


def main(argv: list[str] | None = None) -> None:
    args = cli.parse_plain(Predict, argv)
    from tlc_jax.core.console import SafeConsole
    from tlc_jax.inference.line_stream import standard_streams
    from tlc_jax.inference.text_classifier import classify_stream

    lines, write = standard_streams()
    with contextlib.suppress(BrokenPipeError):  # the reader has enough
        options = {"pairs": args.pairs, "as_json": args.json}
        classify_stream(args.checkpoint, lines, write, SafeConsole(stderr=True), **options)


if __name__ == "__main__":
    run_command(main)
