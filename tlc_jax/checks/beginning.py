"""Whether the run can begin, or be resumed, with the config that it is asked for."""

from __future__ import annotations

from tlc_jax.checks.check import Failed, Plan
from tlc_jax.config import Config
from tlc_jax.core import command_line
from tlc_jax.core.errors import UserError


def config(plan: Plan) -> str:
    """Whether batches split over the devices, and whether the run in the run directory has this config: what
    `train` refuses before it prepares data."""
    from tlc_jax.parallel.mesh import make_mesh, rows_devices

    for each in plan.configs:
        try:
            mesh = make_mesh(each.mesh)
        except UserError as error:
            fits = {f"{plan.stage(each)}mesh.{name}": "1" for name in ("fsdp", "tensor")}
            raise Failed(str(error), plan.again(**fits)) from error
        _check_splits(plan, each, rows_devices(mesh))
    if plan.name == "train":
        _check_begins(plan, plan.configs[0])
    return "batches split over the devices, and the run can begin"


def _check_splits(plan: Plan, config: Config, devices: int) -> None:
    if config.micro_batch == "auto" or config.rows_at_once % devices == 0:
        return
    name, rows = config.rows_at_once_named, config.rows_at_once
    unit = (config.batch_size if config.micro_batch is None else config.at_once) // rows  # tokens of a row
    raise Failed(
        f"{name} is {rows}, which does not split over {devices} devices: use a multiple",
        plan.again(**{f"{plan.stage(config)}{name}": str(-(-rows // devices) * devices * unit)}),
    )


def _check_begins(plan: Plan, config: Config) -> None:
    """What `train` refuses: another config or budget than that of the run that is there, an incomplete run,
    an initial checkpoint that is not there or does not go with the config."""
    from rich.console import Console

    from tlc_jax.runs.begin import Begin, Fresh
    from tlc_jax.runs.named_begin import parse_init_from, recorded_begin
    from tlc_jax.runs.other_budget import check_budget
    from tlc_jax.runs.resolve_config import resolve_config
    from tlc_jax.storage.paths import parse_path
    from tlc_jax.storage.run_directory import RunDir

    begin: Begin = parse_init_from(plan.init_from) if plan.init_from else Fresh()
    run = RunDir(parse_path(plan.workdir)) if plan.workdir else None
    exists = run is not None and run.exists()
    try:
        if not exists:
            begin.check()
            begin.resolve(config)
    except UserError as error:
        raise Failed(f"--init-from: {error}", "ls runs/") from error
    if run is None or not exists:
        return
    try:
        check_budget(run, config, plan.arguments)
        if not plan.init_from and command_line.option(plan.arguments, "--config") is None:
            begin = recorded_begin(run)
        resolve_config(config, run.root, begin, Console(quiet=True), dry_run=True)
    except UserError as error:
        raise Failed(str(error), plan.again(workdir=f"{str(plan.workdir).rstrip('/')}-new")) from error
