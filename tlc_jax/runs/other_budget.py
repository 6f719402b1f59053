"""The answer to another budget than a run has. Imports no jax."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from tlc_jax.config import Config
from tlc_jax.config.marks import branch_point, parse_mark
from tlc_jax.config.saved import as_begun, differences, flat
from tlc_jax.core import command_line
from tlc_jax.core.errors import UserError
from tlc_jax.core.invocation import command
from tlc_jax.runs.starts import read_starts
from tlc_jax.storage.run_directory import RunDir

_NOT_COMPARED = ("data.dir", "data.tokenizer", "micro_batch")  # open_run compares what they stand for
_MARKS = "1/4,1/2,1"


def check_budget(rundir: RunDir, config: Config, arguments: Sequence[str]) -> None:
    """UserError if `config` is that of the run but for its budget, with commands that train its model on.
    `arguments` is the command line of `train`."""
    if command_line.option(arguments, "--branch-from"):
        return
    stored, config = rundir.read_config(), as_begun(config, rundir.read_document())
    taken = "model." if command_line.option(arguments, "--init-from") else "budget."
    free = [name for name in flat(stored) if name.startswith(("budget.", taken)) or name in _NOT_COMPARED]
    asked, has = ({f"budget.{name}": x for name, x in vars(c.budget).items()} for c in (config, stored))
    changed = differences(asked, has, "the run")
    if not changed or rundir.differences(config, free):
        return
    budget = {_option(name): str(asked[name]) for name in asked if asked[name] != has[name]}
    branches = _by_branches(rundir, config, arguments, budget)
    raise UserError(
        f"--workdir {rundir.root} holds a run of another budget: {changed}. Its learning rate follows its "
        "budget, so a run keeps the budget that it began with.\n"
        f"To train its model on, begin a new run from its parameters:\n"
        f"  {_init_from(rundir, arguments, budget)}{branches}"
    )


def _init_from(rundir: RunDir, arguments: Sequence[str], budget: dict[str, str]) -> str:
    arguments = _with_config(rundir, arguments)
    names = (argument.partition("=")[0] for argument in arguments)
    taken = [name for name in names if name.startswith("--model.") or name == "--data.tokenizer"]
    new = {**budget, "--init-from": str(rundir.root), "--workdir": f"{rundir.root}-longer"}
    return _train(command_line.changed(command_line.without(arguments, dict.fromkeys(taken, "")), new))


def _by_branches(rundir: RunDir, asked: Config, arguments: Sequence[str], budget: dict[str, str]) -> str:
    """How one run is finished at several budgets; '' where its schedule has no end to be moved. `asked` is
    the run's config with the new budget."""
    stored = rundir.read_config()
    shares = [mark.name for mark in stored.kept_marks if mark.share and not mark.name.startswith("branch")]
    if stored.schedule.cooldown == 0 and shares:
        return f"\nTo finish it as it is at one of its marks:\n  {_branch(rundir.root, shares[-1])}"
    if stored.schedule.noam_steps is not None:
        return ""
    trunk = f"{rundir.root}-trunk"
    new = {**budget, **_trunk_options(asked, budget), "--workdir": trunk}
    return (
        "\nTo choose among budgets later, train a trunk, and finish it at its marks:\n"
        f"  {_train(command_line.changed(_with_config(rundir, arguments), new))}\n  {_branch(trunk, '1/2')}"
    )


def _trunk_options(config: Config, budget: dict[str, str]) -> dict[str, str]:
    """The options that make a trunk of a run with this config, whose `budget` options are new: it is as long
    as they say, and its warm-up and narrow attention end before its first branch."""
    schedule, limits = config.schedule, vars(config.budget)
    longer = [name for name in limits if limits[name] is not None and _option(f"budget.{name}") in budget]
    follows = schedule.follows if schedule.follows in longer or not longer else longer[0]
    options = {"--schedule.cooldown": "0", "--checkpoint.marks": _MARKS}
    if follows != schedule.follows:
        options["--schedule.follows"] = follows
    for name in limits:
        if name != follows and limits[name] is not None:
            options[_option(f"budget.{name}")] = "None"
    first = min(branch_point(parse_mark(mark)).share or 1.0 for mark in _MARKS.split(","))
    for name in ("warmup", "local_attention"):
        if getattr(schedule, name) > first:
            options[_option(f"schedule.{name}")] = f"{first:g}"
    return options


def _branch(trunk: object, mark: str) -> str:
    workdir = f"{trunk}-{mark.replace('/', '_')}"
    return _train(shlex.join(["--branch-from", f"{trunk}@{mark}", "--workdir", workdir]))


def _train(arguments: str) -> str:
    return f"{command('train')} {arguments}"


def _with_config(rundir: RunDir, arguments: Sequence[str]) -> Sequence[str]:
    """A command line of `train` with a config document: this one, or else that which began the run."""
    if command_line.option(arguments, "--config"):
        return arguments
    program, *words = next((start["command"] for start in read_starts(rundir) if "command" in start), [""])
    if words[:1] == ["train"]:  # of `tlc train`
        words = words[1:]
    elif Path(program).stem != "train":
        words = []
    return words if command_line.option(words, "--config") else ["--config", "CONFIG", *arguments]


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")
