"""What SLURM's variables say of the tasks that srun has started. A shell of `srun --pty`, and all that is
started in it, has variables of its own that say the same, whether others run beside it or not."""

from __future__ import annotations

import os

from tlc_jax.core.errors import UserError

_TASKS = ("SLURM_STEP_NUM_TASKS", "SLURM_NTASKS")  # of the step; of the whole allocation, in some shells


def step_tasks() -> int:
    """How many tasks this process is one of; 1 outside of a step."""
    if "SLURM_STEP_NODELIST" not in os.environ:
        return 1
    name = _variable()
    tasks = os.environ.get(name, "1")
    if not tasks.isdecimal():
        raise UserError(f"{name} is {tasks!r}, which is no number of tasks: start with srun")
    return int(tasks)


def why_others() -> str:
    """Which variables make a process wait for others."""
    name = _variable()
    shell = " of this shell (srun --pty)" if "SLURM_PTY_PORT" in os.environ else ""
    index = os.environ.get("SLURM_PROCID", "?")
    return f"{name}={os.environ.get(name)}{shell} says that this is task {index} of several"


def _variable() -> str:
    return next((name for name in _TASKS if name in os.environ), _TASKS[-1])
