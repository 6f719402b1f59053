"""`python -m tlc_jax.bench step-time|compile --config C`: the time of an update; whether it fits TPUs."""

from __future__ import annotations

import dataclasses
import sys
from typing import Optional

from tlc_jax.config import Config
from tlc_jax.core import cli
from tlc_jax.core.compiled import look_for_no_tpu
from tlc_jax.core.entry_point import run_command
from tlc_jax.core.errors import EXIT_FAILED
from tlc_jax.core.invocation import command

EVERYDAY = (
    *("config", "output", "topology", "classes", "memory_gib", "batch_size", "micro_batch"),
    *("model.num_layers", "model.hidden_size", "mesh.data", "mesh.fsdp", "mesh.tensor"),
)


@dataclasses.dataclass(frozen=True)
class StepTime:
    """Time 100 updates once their time has settled, with the largest micro-batch that fits (paper 2.2).

    It fits in --memory-gib (the paper's V100: 16), or in the memory that the device reports. Where neither is
    known, on a CPU, the config's micro_batch is timed.
    """

    config: str
    """A config document: a path, or the bare name of one in configs/. Its fields follow as options."""
    settings: cli.Settings[Config]
    output: str = "step_time.json"
    """The timing file, over which `report --step-time` draws curves."""


@dataclasses.dataclass(frozen=True)
class Compile:
    """Compile an update for TPUs that are not attached (extra `tpu`): peak memory, communication, FLOPs.

    Exit code 1, with the compiler's own sentence, where it does not fit in a device or in --memory-gib. With
    --micro-batch auto it finds the largest that fits, by a few compilations.
    """

    config: str
    """A config document: a path, or the bare name of one in configs/. Its fields follow as options."""
    settings: cli.Settings[Config]
    topology: str
    """v3:2x2 (a v3-8), v3:4x4, v5e:2x4, v6e:2x4, v5p:2x2x2 ..."""
    classes: Optional[int] = None
    """Of a classification: the number of classes, which without its data nothing else says."""
    output: Optional[str] = None
    """Also write the result to this file (JSON)."""


BENCH = {"step-time": StepTime, "compile": Compile}


def main(argv: list[str] | None = None) -> None:
    arguments = list(sys.argv[1:] if argv is None else argv)
    name = cli.choose(
        command("bench"), BENCH, arguments, "Measure the time of an update, or compile it for TPUs."
    )
    args = cli.parse(BENCH[name], arguments[1:], f"bench {name}", everyday=EVERYDAY)
    _step_time(args) if isinstance(args, StepTime) else _compile(args)


def _step_time(args: StepTime) -> None:
    from tlc_jax.runs.step_time import measure_step_time  # jax is imported only when it is needed
    from tlc_jax.storage.paths import parse_path
    from tlc_jax.storage.run_directory import write_json
    from tlc_jax.storage.writable import check_writable
    from tlc_jax.training.view import make_console

    output = parse_path(args.output)
    check_writable(output, "--output")
    result = measure_step_time(args.settings, make_console())
    write_json(output, result)
    mean, median = result["mean_seconds"], result["median_seconds"]
    print(f"mean {mean:.4g} s, median {median:.4g} s over {result['steps']} steps; written to {args.output}")


def _compile(args: Compile) -> None:
    from tlc_jax.storage.paths import parse_path
    from tlc_jax.storage.writable import check_writable

    output = parse_path(args.output) if args.output else None
    if output is not None:
        check_writable(output, "--output")
    look_for_no_tpu()  # before jax is imported
    from tlc_jax.runs.ahead_of_time import compile_for, described, topology_devices
    from tlc_jax.storage.run_directory import write_json

    result = compile_for(args.settings, topology_devices(args.topology), print, args.classes)
    print(described(result))
    if output is not None:
        write_json(output, {"config": args.config, "topology": args.topology, **result})
    if not result["fits"]:
        sys.exit(EXIT_FAILED)


if __name__ == "__main__":
    run_command(main)
