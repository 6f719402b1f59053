"""`python -m tlc_jax.predict RUN FILE > out`: labels of new texts, in order."""

from __future__ import annotations

import contextlib
import dataclasses

from tlc_jax.core import cli
from tlc_jax.core.entry_point import run_command


@dataclasses.dataclass(frozen=True)
class Predict:
    """Classify texts: on standard output a label and the probability of each class, with tabs between them,
    below a line that names the columns. Progress is on standard error."""

    checkpoint: cli.Model[str]
    file: cli.Positional[str | None] = None
    """A table (.tsv, .csv, .jsonl or .parquet), of which the columns text and text_b are read, or a file with
    a text on each line; None: the lines of standard input."""
    pairs: bool = False
    """Lines hold two texts with a tab between them; only needed for a model that does not say what it was
    trained on."""
    json: bool = False
    """Write a JSON object for each text, {"label": ..., "probabilities": {...}}, and no names of columns."""


def main(argv: list[str] | None = None) -> None:
    args = cli.parse_plain(Predict, argv)
    from tlc_jax.core.console import SafeConsole
    from tlc_jax.inference.classified_stream import classify_stream
    from tlc_jax.inference.line_stream import standard_output

    write = standard_output()
    with contextlib.suppress(BrokenPipeError):  # the reader has enough
        options = {"pairs": args.pairs, "as_json": args.json}
        classify_stream(args.checkpoint, args.file, write, SafeConsole(stderr=True), **options)


if __name__ == "__main__":
    run_command(main)
