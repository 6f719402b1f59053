"""How a run begins by what a command line or environment.json says of it."""

from __future__ import annotations

import dataclasses

from tlc_jax.config.marks import parse_mark
from tlc_jax.core.errors import UserError
from tlc_jax.runs.begin import Begin, Branch, Fresh, InitFrom
from tlc_jax.runs.begin_from_folder import SCHEME, InitFromFolder
from tlc_jax.runs.starts import read_starts
from tlc_jax.storage.run_directory import RunDir, split_mark


def recorded_begin(rundir: RunDir) -> Begin:
    """How a run began that is resumed with its own config, as its environment.json says; UserError where it
    does not say."""
    starts = read_starts(rundir)
    if not starts:
        raise UserError(
            f"{rundir.environment} is missing, which says how the run began: restore it, or run the whole "
            "command again that began the run, with its --config"
        )
    begin: Begin = Fresh()
    if branch := starts[0].get("branch_from"):
        begin = _branch(branch)
    elif reference := starts[0].get("init_from"):
        begin = parse_init_from(reference)
    return dataclasses.replace(begin, resolved=True)


def parse_init_from(text: str) -> InitFrom | InitFromFolder:
    """What `--init-from` names: a folder of transformers, which begins with hf:, or a run or an artifact."""
    return InitFromFolder(text) if text.startswith(SCHEME) else InitFrom(text)


def parse_branch(text: str) -> Branch:
    """The branch to RUN@MARK; UserError if the text is not of this form, or names no run."""
    branch = _branch(text)
    if not branch.trunk.config.is_file():
        root = branch.trunk.root
        raise UserError(f"--branch-from {text}: {root} is not a run directory: it has no config.json")
    return branch


def _branch(text: str) -> Branch:
    rundir, name = split_mark(text)
    if name is None:
        raise UserError(f"--branch-from {text} is no RUN@MARK, such as runs/trunk@1/4")
    try:
        mark = parse_mark(name)
    except ValueError as error:
        raise UserError(f"--branch-from {text}: {error}") from error
    if mark.share is None:
        raise UserError(f"--branch-from {text}: a branch is finished at a share of the budget, not at {name}")
    return Branch(rundir, mark)
