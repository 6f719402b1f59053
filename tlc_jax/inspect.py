"""`python -m tlc_jax.inspect DIR`: the content of an artifact, after checking every byte of it."""

from __future__ import annotations

import dataclasses
import json

from tlc_jax.core import cli
from tlc_jax.core.entry_point import run_command


@dataclasses.dataclass(frozen=True)
class Inspect:
    """Show the bits, ranges, zeros and error of each tensor of an artifact, and its sizes."""

    artifact: cli.Positional[str]
    """A folder that python -m tlc_jax.compress has written."""
    json: bool = False
    """Print the whole manifest as one JSON object."""


def main(argv: list[str] | None = None) -> None:
    args = cli.parse_plain(Inspect, argv)
    from tlc_jax.core.output import check_delivered
    from tlc_jax.inference.describe import describe
    from tlc_jax.training.view import make_console

    manifest, table = describe(args.artifact)
    if args.json:
        print(json.dumps(manifest))
    else:
        make_console().print(table)
    check_delivered()


if __name__ == "__main__":
    run_command(main)
