"""How many tasks SLURM's variables say that srun has started. In a shell of `srun --pty` they say the same,
whether other tasks are running or not."""

from __future__ import annotations

import os

from tlc_jax.core.errors import UserError

_TASKS = ("SLURM_STEP_NUM_TASKS", "SLURM_NTASKS")  # of the step; in some shells of the whole allocation


def step_tasks() -> int:
    """The number of tasks of the step that this process belongs to; 1 outside of a step."""
    if "SLURM_STEP_NODELIST" not in os.environ:
        return 1
    name = _variable()
    tasks = os.environ.get(name, "1")
    if not tasks.isdecimal():
        raise UserError(f"{name} is {tasks!r}, which is not a number of tasks: start with srun")
    return int(tasks)


def why_others() -> str:
    """Which variable says that there are other tasks."""
    name = _variable()
    shell = " of this shell (srun --pty)" if "SLURM_PTY_PORT" in os.environ else ""
    index = os.environ.get("SLURM_PROCID", "?")
    return f"{name}={os.environ.get(name)}{shell} says that this is task {index} of several"


def _variable() -> str:
    return next((name for name in _TASKS if name in os.environ), _TASKS[-1])
