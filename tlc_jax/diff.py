"""`python -m tlc_jax.diff A B`: which tensors of two models differ, and by how much."""

from __future__ import annotations

import dataclasses

from tlc_jax.core import cli
from tlc_jax.core.entry_point import run_command


@dataclasses.dataclass(frozen=True)
class Diff:
    """Compare the weights of two models of the same shapes."""

    one: cli.Model[str]
    other: cli.Model[str]
    json: bool = False
    """Print one JSON object per tensor."""


def main(argv: list[str] | None = None) -> None:
    args = cli.parse_plain(Diff, argv)
    from tlc_jax.core.json_text import json_text
    from tlc_jax.core.output import check_delivered
    from tlc_jax.inference.describe import differences_table, tensor_differences
    from tlc_jax.training.view import make_console

    differing = tensor_differences(args.one, args.other)
    if args.json:
        for difference in differing:
            print(json_text(dataclasses.asdict(difference)))
    else:
        make_console().print(differences_table(differing))
    check_delivered()


if __name__ == "__main__":
    run_command(main)
