"""One of several processes of a run, with a fault injected: `python -m tests.host FAULT [options of train]`.

FAULT is JSON: {"signal": [step, number], "fail": step, "full_disk": step, "clock_ahead": seconds}. The last
step of the loop is written to stderr: {"step": ...}.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from tlc_jax import train
from tlc_jax.core.clock import Clock
from tlc_jax.core.entry_point import run_command
from tlc_jax.core.errors import UserError
from tlc_jax.runs import saving
from tlc_jax.runs.orbax_items import Writer
from tlc_jax.training import loop, view
from tlc_jax.training.due import Stop
from tlc_jax.training.session import Session


def after(step: int, do: Any) -> None:
    """Calls `do` when so many steps are done."""
    on = view.View.stepped

    def stepped(self: view.View, now: int, seconds: float) -> None:
        on(self, now, seconds)
        if now == step:
            do()

    view.View.stepped = stepped  # type: ignore[method-assign]


def fail() -> None:
    raise UserError("this one fails")


def full_disk(step: int) -> None:
    """Process 1 cannot write its part of this step."""
    finish = Writer.finish

    def full(self: Any) -> None:
        finish(self)
        if self.failing:
            raise OSError("No space left on device")

    on = saving.Checkpoints.save

    def save_and_fail(self: saving.Checkpoints, now: int, *args: Any, **more: Any) -> None:
        on(self, now, *args, **more)
        self._writer.result().failing = now == step  # type: ignore[attr-defined]

    Writer.failing = False  # type: ignore[attr-defined]
    Writer.finish = full  # type: ignore[method-assign]
    saving.Checkpoints.save = save_and_fail  # type: ignore[method-assign]


def tell_the_end() -> None:
    train_on = loop.train

    def reported(session: Session) -> Stop:
        try:
            return train_on(session)
        finally:
            print(json.dumps({"step": session.step}), file=sys.stderr, flush=True)

    loop.train = reported


def main() -> None:
    trouble = json.loads(sys.argv[1])
    if "signal" in trouble:
        step, number = trouble["signal"]
        after(step, lambda: os.kill(os.getpid(), number))
    if "fail" in trouble:
        after(trouble["fail"], fail)
    if "full_disk" in trouble:
        full_disk(trouble["full_disk"])
    if "clock_ahead" in trouble:
        seconds = Clock.training_seconds.fget  # type: ignore[attr-defined]
        Clock.training_seconds = property(lambda self: seconds(self) + trouble["clock_ahead"])  # type: ignore[assignment,method-assign]
    tell_the_end()
    run_command(lambda: train.main(sys.argv[2:]))


if __name__ == "__main__":
    main()
