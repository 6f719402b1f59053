"""`python -m tlc_jax.inspect DIR`: what an artifact holds, after checking every byte of it."""

from __future__ import annotations

import dataclasses
import json

from tlc_jax.core import cli
from tlc_jax.core.entry_point import run_command


@dataclasses.dataclass(frozen=True)
class Inspect:
    """Show the bits, zeros and errors of an artifact by kind of matrix, how it is stored, and its sizes."""

    artifact: cli.Positional[str]
    """A folder that the command compress has written."""
    all: bool = False
    """Show every tensor."""
    json: bool = False
    """Print the whole manifest as one JSON object, with the bytes of the entropy."""


def main(argv: list[str] | None = None) -> None:
    args = cli.parse_plain(Inspect, argv)
    from tlc_jax.core.output import check_delivered
    from tlc_jax.inference.describe import described, summary, tensor_table
    from tlc_jax.training.view import make_console

    manifest = described(args.artifact)
    if args.json:
        print(json.dumps(manifest))
    else:
        make_console().print(tensor_table(manifest) if args.all else summary(manifest))
    check_delivered()


if __name__ == "__main__":
    run_command(main)
