"""Branches: from a mark of a trunk, the rate cools down to zero, and the model is finished at that mark.

A trunk's learning rate never falls (`schedule.cooldown` 0), so none of its marks is a finished model; points
cut from one long schedule would bias every comparison of budgets. The branch to a mark leaves the trunk when
80 % of the mark's budget is used and cools down over the rest. Until there both are one run: what the branch
ends with is what a run of its own with that budget would have ended with.
"""

from __future__ import annotations

import dataclasses

from tlc_jax.config import BudgetConfig, Config
from tlc_jax.config.marks import COOLDOWN, Mark, branch_point, parse_mark
from tlc_jax.core.errors import UserError
from tlc_jax.runs.checkpoint import Restored, restore_state
from tlc_jax.storage.run_directory import RunDir, split_mark
from tlc_jax.training.state import TrainState


@dataclasses.dataclass(frozen=True)
class Branch:
    """The trunk's run directory, and the mark that the branch is finished at."""

    trunk: RunDir
    mark: Mark

    def __str__(self) -> str:
        return f"{self.trunk.root}@{self.mark.name}"

    @property
    def point(self) -> str:
        """The name of the checkpoint that the branch begins from."""
        return branch_point(self.mark).name

    def config(self) -> Config:
        """The trunk's, with the mark's budget and a cool-down at its end."""
        trunk = self.trunk.read_config()
        if trunk.schedule.cooldown != 0:
            raise UserError(
                f"{self.trunk.root} is no trunk: its schedule.cooldown is {trunk.schedule.cooldown}, not 0, "
                "so its marks are points of one long decay"
            )
        if self.mark not in trunk.kept_marks:
            raise UserError(
                f"{self.trunk.root} has no mark {self.mark.name}: its checkpoint.marks are "
                f"{trunk.checkpoint.marks or 'none'}"
            )
        share, measure = self.mark.share, trunk.schedule.follows
        assert share is not None
        limit = share * getattr(trunk.budget, measure)
        schedule = dataclasses.replace(
            trunk.schedule,
            cooldown=COOLDOWN,
            warmup=trunk.schedule.warmup / share,
            local_attention=trunk.schedule.local_attention / share,
        )
        budget = BudgetConfig(**{measure: limit if measure == "training_seconds" else round(limit)})
        checkpoint = dataclasses.replace(trunk.checkpoint, marks="")
        return dataclasses.replace(trunk, schedule=schedule, budget=budget, checkpoint=checkpoint)

    def restore(self, like: TrainState) -> Restored:
        """Where the branch leaves; the run that trains it owns what comes after."""
        found = restore_state(self.trunk.checkpoints, like, self.point)
        if found is None:
            raise UserError(f"{self.trunk.root} has not come as far as to where {self.point!r} leaves it yet")
        return found


def parse_branch(text: str) -> Branch:
    """RUN@MARK; UserError if it is not."""
    rundir, name = split_mark(text)
    if name is None:
        raise UserError(f"--branch-from {text} is no RUN@MARK, such as runs/trunk@1/4")
    try:
        mark = parse_mark(name)
    except ValueError as error:
        raise UserError(f"--branch-from {text}: {error}") from error
    if mark.share is None:
        raise UserError(f"--branch-from {text}: a branch is finished at a share of the budget, not at {name}")
    if not rundir.config.is_file():
        raise UserError(f"--branch-from {text}: {rundir.root} is not a run directory: it has no config.json")
    return Branch(rundir, mark)
