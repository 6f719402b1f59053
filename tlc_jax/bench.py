"""`python -m tlc_jax.bench step-time --config C`: how long one update takes, after the paper's protocol."""

from __future__ import annotations

import dataclasses
import sys
from typing import Annotated, Optional

import tyro

from tlc_jax.config import Config
from tlc_jax.core import cli
from tlc_jax.core.errors import UserError, run_door


@dataclasses.dataclass(frozen=True)
class StepTime:
    """Time 100 updates once their time has settled, with the largest micro-batch that fits (paper 2.2)."""

    config: str
    """A config document: a path, or the bare name of one in configs/. Its fields follow as options."""
    settings: Annotated[Config, tyro.conf.arg(name="")]
    memory_gib: Optional[float] = None
    """Memory of one device, in GiB (the paper's V100: 16); None: what it says that it has. A CPU does not
    say: then the config's micro_batch is timed."""
    output: str = "step_time.json"
    """The timing file; `python -m tlc_jax.report --step-time` draws curves over it."""


def main(argv: list[str] | None = None) -> None:
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(
            "usage: python -m tlc_jax.bench step-time --config C [options]\n\n"
            "  step-time  seconds of an update, with the largest micro-batch that fits (paper 2.2);\n"
            "             step-time --help shows its options"
        )
        sys.exit(0)
    if arguments[0] != "step-time":
        raise UserError(f"bench has no measurement {arguments[0]}; it has step-time")
    args = cli.parse(StepTime, arguments[1:], "bench step-time")
    if args.memory_gib is not None and not args.memory_gib > 0:
        raise UserError(f"--memory-gib must be positive, not {args.memory_gib:g}")
    from tlc_jax.core.place import locate, make_folder
    from tlc_jax.core.rundir import write_json
    from tlc_jax.training.step_time import measure_step_time  # jax is imported only when it is needed
    from tlc_jax.training.view import make_console

    output = locate(args.output)
    make_folder(output.parent)
    found = measure_step_time(args.settings, make_console(), args.memory_gib)
    write_json(output, found)
    mean, median = found["mean_seconds"], found["median_seconds"]
    print(f"mean {mean:.4g} s, median {median:.4g} s over {found['steps']} steps; written to {args.output}")


if __name__ == "__main__":
    run_door(main)
