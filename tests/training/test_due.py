"""What is due after a step, beside a straightforward reading of the config."""

from __future__ import annotations

import types

import pytest

from tlc_jax.config import BudgetConfig, CheckpointConfig, Config, EvaluationConfig
from tlc_jax.core import stopping
from tlc_jax.core.clock import Budget, Clock, Deadline
from tlc_jax.training.due import Agenda, Due, MarksAhead

CONFIG = Config(
    budget=BudgetConfig(steps=12),
    evaluation=EvaluationConfig(every_steps=6),
    checkpoint=CheckpointConfig(every_steps=5, marks="1/4"),
    log_every=4,
)


class Now:
    """Seconds of a clock that stands still."""

    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def agenda(now: Now, *, stop_after: float | None = None, in_a_row: bool = False) -> Agenda:
    budget = Budget(CONFIG.budget, "steps", tokens_per_step=1.0)
    saver = types.SimpleNamespace(longest_save=1.0, failed=lambda: False)
    skipped = types.SimpleNamespace(in_a_row=in_a_row)
    marks = MarksAhead(CONFIG.kept_marks, 0.0, 0.0)
    deadline = Deadline(stop_after, 0.0, now)
    return Agenda(CONFIG, budget, marks, lambda step: step / 100, deadline, saver, skipped)  # type: ignore[arg-type]


def test_what_is_due_after_each_step() -> None:
    plan, clock = agenda(Now()), Clock(now=Now())
    dues = {step: plan.due(step, clock) for step in range(1, 13)}
    assert [step for step, due in dues.items() if due.log] == [4, 8, 12]
    assert [step for step, due in dues.items() if due.marks] == [3]
    assert dues[3].marks == ("1/4",)
    assert [step for step, due in dues.items() if due.evaluate] == [3, 6, 12], "marks and the end, too"
    assert [step for step, due in dues.items() if due.save] == [3, 5, 10, 12]
    assert {step: due.stop for step, due in dues.items() if due.stop} == {12: "budget"}


def test_a_state_whose_last_step_was_skipped_is_not_saved_by_the_way() -> None:
    plan, clock = agenda(Now(), in_a_row=True), Clock(now=Now())
    assert [step for step in range(1, 13) if plan.due(step, clock).save] == [3, 12]


def test_a_signal_and_a_deadline_save_and_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    now = Now()
    plan, clock = agenda(now, stop_after=10.0), Clock(now=now)
    assert plan.due(1, clock) == Due(0.0)
    now.seconds = 5.0  # the longest step is 5 s, two saves are 2 s
    assert plan.due(2, clock) == Due(0.0, save=True, stop="deadline")
    plan = agenda(Now())
    monkeypatch.setattr(stopping, "requested", lambda: True)
    assert plan.due(1, clock) == Due(0.0, save=True, stop="signal")
    assert plan.due(12, clock).stop == "budget", "a run that is complete was not interrupted"
