"""`python -m tlc_jax.doctor`: what would keep a run from training on this machine, and how to mend it."""

from __future__ import annotations

import dataclasses
import json
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Optional

from tlc_jax.checks import beginning, imports, incomplete, inputs, installation, resources
from tlc_jax.checks.check import INSTALL, Check, Plan, Result, results
from tlc_jax.config import Config, StudyConfig
from tlc_jax.core import command_line, output
from tlc_jax.core.config_document import load_config
from tlc_jax.core.entry_point import run_command
from tlc_jax.core.errors import EXIT_FAILED, UserError
from tlc_jax.core.invocation import command

try:
    from tlc_jax.core import cli
except ImportError as error:  # of tyro: nothing is installed, or not all of it
    incomplete.answer(error)

EVERYDAY = ("config", "workdir", "init_from", "json", "data.name", "data.dir", "data.train", "data.cache_dir")
_CPU, _HOME = "export JAX_PLATFORMS=cpu", "export HOME=$PWD"
CHECKS = (
    Check("packages", installation.packages, INSTALL),
    Check("imports", imports.imports, INSTALL, needs=("packages",)),
    Check("devices", installation.devices, INSTALL, needs=("imports",)),
    Check("product", installation.product, _CPU, needs=("devices",)),
    Check("memory", resources.memory, "free -h", needs=("devices",)),
    Check("caches", resources.caches, _HOME, needs=("imports",)),
    Check("workdir", inputs.workdir, _HOME, needs=("imports",)),
    Check("config", beginning.config, _HOME, needs=("devices", "workdir")),
    Check("disk", resources.disk, _HOME, needs=("devices", "workdir")),
    Check("data", inputs.data, INSTALL, needs=("imports",)),
)
"""In the order in which they are made. A new check is a function in `checks/` and a line here."""


@dataclasses.dataclass(frozen=True)
class Doctor:
    """Check this machine before a run: packages, devices, memory, disks, caches, run directory and data.

    Takes the options of train or study; without any it checks for the quickstart. Exit code 1 if a check
    fails.
    """

    settings: cli.Settings[Config]
    config: Optional[str] = None
    """A config document of `train` or `study`: a path, or the bare name of one in configs/. Its fields follow
    as options."""
    workdir: Optional[str] = None
    """The run directory, local or gs://...: a new one, or that of a run to resume."""
    init_from: Optional[str] = None
    """The run, RUN@MARK, RUN@lastN or artifact that the run will begin with."""
    json: bool = False
    """Print {"ok", "checks": [{"name", "ok", "detail", "hint"}]} and nothing else."""


@dataclasses.dataclass(frozen=True)
class DoctorOfStudy(Doctor):
    __doc__ = Doctor.__doc__
    settings: cli.Settings[StudyConfig]  # type: ignore[assignment]


def _of_run(config: Config) -> tuple[list[Config], list[Config]]:
    return [config], [config]


def _of_study(study: StudyConfig) -> tuple[list[Config], list[Config]]:
    """Each size is trained, and perhaps finetuned; checkpoints that are given are finetuned alone."""
    if study.pretrained and study.finetune is not None:
        return [study.finetune], [study.finetune]
    return [study.train, *filter(None, [study.finetune])], 2 * [study.train_of(size) for size in study.sizes]


def _first_given(settings: Config | StudyConfig) -> str | None:
    """The first checkpoint that a study begins with, which stands for all."""
    given = getattr(settings, "given", ())
    return given[0].reference if given else None


_COMMANDS: dict[type, tuple[str, type[Doctor], Callable[[Any], tuple[list[Config], list[Config]]]]] = {
    Config: ("train", Doctor, _of_run),
    StudyConfig: ("study", DoctorOfStudy, _of_study),
}
"""By what a config document holds: the command that takes it, its options here, and configs for a plan."""


def main(argv: list[str] | None = None) -> None:
    arguments = list(sys.argv[1:] if argv is None else argv)
    settings = _settings(arguments)
    name, options, configs_of = _COMMANDS[type(settings)]
    args = cli.parse(options, arguments, "doctor", settings, EVERYDAY)
    configs, models = map(tuple, configs_of(args.settings))
    given = tuple(command_line.without(arguments, {"--json": None}))
    plan = Plan(name, given, configs, models, args.workdir, args.init_from or _first_given(args.settings))
    made = []
    for result in results(CHECKS, plan):
        if not args.json:
            _print(result, mended=result.hint in [other.hint for other in made])
        made.append(result)
    failed = [result for result in made if not result.ok]
    if args.json:
        print(json.dumps({"ok": not failed, "checks": [dataclasses.asdict(result) for result in made]}))
        output.check_delivered()
    else:
        print(f"next: {failed[0].hint if failed else _next(plan, args)}")
    if failed:
        sys.exit(EXIT_FAILED)


def _settings(arguments: list[str]) -> Any:
    """The config that options change: that of `--config`, else that of the run or study in `--workdir`, else
    the quickstart's."""
    document, workdir = (command_line.option(arguments, name) for name in ("--config", "--workdir"))
    if document is not None:
        config = load_config(document, object)
        return config if type(config) in _COMMANDS else Config()  # `parse` refuses the document
    if workdir is not None and (stored := _stored(workdir)) is not None:
        return stored
    return load_config("quickstart", Config)


def _stored(workdir: str) -> Config | StudyConfig | None:
    try:
        from tlc_jax.storage.paths import parse_path  # takes longer to import than --help may take
        from tlc_jax.storage.run_directory import RunDir
        from tlc_jax.studies.study_record import read_config

        run = RunDir(parse_path(workdir))
    except (ImportError, UserError):  # of a broken package, of a bucket: a check says so
        return None
    return run.read_config() if run.config.is_file() else read_config(run.root)


def _print(result: Result, mended: bool) -> None:
    """`mended`: its command stands above."""
    from tlc_jax.core.printable import printable

    shown = printable(result.detail, 2000)
    print(f"{'ok' if result.ok else 'FAILED':6}  {result.name:8}  {shown}", flush=True)
    if result.hint and not mended:
        print(f"{'':18}{result.hint}", flush=True)


def _next(plan: Plan, args: Doctor) -> str:
    """The command that the checks were for; without options that of the README."""
    if not plan.arguments:
        return f"{command('study')} --config quickstart_study --workdir runs/study"
    config = () if args.config or plan.workdir else ("--config", "quickstart")
    workdir = () if plan.workdir else ("--workdir", f"runs/{Path(args.config or 'quickstart').stem}")
    return f"{command(plan.name)} {shlex.join([*config, *plan.arguments, *workdir])}"


if __name__ == "__main__":
    run_command(main)
