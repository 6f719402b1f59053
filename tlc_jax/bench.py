"""`python -m tlc_jax.bench step-time|compile --config C`: how long an update takes; whether it fits a TPU."""

from __future__ import annotations

import sys

from tlc_jax.config.bench_options import USAGE, Compile, StepTime
from tlc_jax.core import cli
from tlc_jax.core.compiled import look_for_no_tpu
from tlc_jax.core.entry_point import run_command
from tlc_jax.core.errors import EXIT_FAILED, UserError


def main(argv: list[str] | None = None) -> None:
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE)
        sys.exit(0)
    if arguments[0] == "step-time":
        _step_time(cli.parse(StepTime, arguments[1:], "bench step-time"))
    elif arguments[0] == "compile":
        _compile(cli.parse(Compile, arguments[1:], "bench compile"))
    else:
        raise UserError(f"bench has no measurement {arguments[0]}; it has step-time and compile")


def _step_time(args: StepTime) -> None:
    from tlc_jax.runs.step_time import measure_step_time  # jax is imported only when it is needed
    from tlc_jax.storage.paths import parse_path
    from tlc_jax.storage.run_directory import write_json_to
    from tlc_jax.storage.writable import check_writable
    from tlc_jax.training.view import make_console

    check_writable(parse_path(args.output), "--output")
    found = measure_step_time(args.settings, make_console())
    write_json_to(args.output, found)
    mean, median = found["mean_seconds"], found["median_seconds"]
    print(f"mean {mean:.4g} s, median {median:.4g} s over {found['steps']} steps; written to {args.output}")


def _compile(args: Compile) -> None:
    from tlc_jax.storage.paths import parse_path
    from tlc_jax.storage.writable import check_writable

    if args.output:
        check_writable(parse_path(args.output), "--output")
    look_for_no_tpu()  # before jax is imported
    from tlc_jax.runs.ahead_of_time import compile_for, described, topology_devices
    from tlc_jax.storage.run_directory import write_json_to

    found = compile_for(args.settings, topology_devices(args.topology), print)
    print(described(found))
    if args.output:
        write_json_to(args.output, {"config": args.config, "topology": args.topology, **found})
    if not found["fits"]:
        sys.exit(EXIT_FAILED)


if __name__ == "__main__":
    run_command(main)
