"""What is due after a step, beside a straightforward reading of the config."""

from __future__ import annotations

import dataclasses
import math
import types

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tlc_jax.config import BudgetConfig, CheckpointConfig, Config, EvaluationConfig, ScheduleConfig
from tlc_jax.core import stopping
from tlc_jax.core.clock import Budget, Clock, Deadline
from tlc_jax.tasks.metric import ACCURACY, NATS_PER_BYTE, Metric
from tlc_jax.training.best import best_until
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


def agenda(
    now: Now,
    *,
    stop_after: float | None = None,
    in_a_row: bool = False,
    config: Config = CONFIG,
    first: int = 0,
) -> Agenda:
    saver = types.SimpleNamespace(longest_save=1.0, failed=lambda: False, newest=None)
    task = types.SimpleNamespace(
        primary_metric=NATS_PER_BYTE, epochs=lambda step: step / 100, evaluation_sets=lambda: ("held_out",)
    )
    return Agenda(
        config,
        task,  # type: ignore[arg-type]
        Budget(config.budget, config.schedule.follows, tokens_per_step=1.0),
        Deadline(stop_after, 0.0, now),
        MarksAhead(config.kept_marks, 0.0, 0.0),
        saver,  # type: ignore[arg-type]
        types.SimpleNamespace(evaluation=None),  # type: ignore[arg-type]
        types.SimpleNamespace(in_a_row=in_a_row),  # type: ignore[arg-type]
        first,
    )


def test_what_is_due_after_each_step() -> None:
    plan, clock = agenda(Now()), Clock(now=Now())
    dues = {}
    for step in range(1, 13):
        dues[step] = plan.due(step, clock)
        plan.marks.drop(dues[step].marks)
    assert [step for step, due in dues.items() if due.log] == [4, 8, 12]
    assert [step for step, due in dues.items() if due.marks] == [3]
    assert dues[3].marks == ("1/4",)
    assert [step for step, due in dues.items() if due.evaluate] == [3, 6, 12], "marks and the end, too"
    assert [step for step, due in dues.items() if due.save] == [3, 5, 10, 12]
    assert {step: due.stop for step, due in dues.items() if due.stop} == {12: "budget"}


def test_a_state_whose_last_step_was_skipped_is_not_saved_by_the_way() -> None:
    plan, clock = agenda(Now(), in_a_row=True), Clock(now=Now())
    plan.marks.drop(("1/4",))
    assert [step for step in range(1, 13) if plan.due(step, clock).save] == [12]


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


def evaluated(plan: Agenda, step: int, nats_per_byte: float) -> None:
    plan.writer.evaluation = {
        "step": step,
        "eval/held_out/loss": 9.0,
        "eval/held_out/nats_per_byte": nats_per_byte,
    }


def test_an_evaluation_that_reaches_the_target_stops_the_run() -> None:
    """Before the first update, too. Fewer nats per byte are better; what was evaluated is not evaluated
    again."""
    config = dataclasses.replace(CONFIG, evaluation=EvaluationConfig(every_steps=6, stop_at=2.0))
    plan, clock = agenda(Now(), config=config), Clock(now=Now())
    assert plan.due(0, clock) == Due(0.0, evaluate=True)
    evaluated(plan, 0, 2.1)
    assert plan.due(0, clock) == Due(0.0)
    evaluated(plan, 0, 2.0)
    assert plan.due(0, clock) == Due(0.0, save=True, stop="target")
    plan.marks.drop(("1/4",))
    assert plan.due(6, clock) == Due(0.0, evaluate=True), "the line is of another step"
    evaluated(plan, 6, math.nan)
    assert plan.due(6, clock).stop == ""
    evaluated(plan, 6, 1.9)
    assert plan.due(6, clock).stop == "target"
    evaluated(plan, 12, 1.9)
    assert plan.due(12, clock).stop == "budget", "complete in any case"


def test_the_best_evaluation_is_kept_once() -> None:
    """That before the first update is one; an equal one later is not better."""
    checkpoint = CheckpointConfig(every_steps=None, best=True)
    plan, clock = agenda(Now(), config=dataclasses.replace(CONFIG, checkpoint=checkpoint)), Clock(now=Now())
    assert plan.due(0, clock) == Due(0.0, evaluate=True)
    values, kept = {0: 2.1, 6: 1.9, 12: 1.9}, {}
    for step, value in values.items():
        before = plan.writer.evaluation
        evaluated(plan, step, value)
        assert plan.writer.evaluation is not None
        plan.writer.evaluation |= best_until(step, value, NATS_PER_BYTE, before)
        kept[step] = plan.due(step, clock)
        plan.saver.newest = step
        assert not plan.due(step, clock).save, "it is saved"
    assert {step: (due.marks, due.save) for step, due in kept.items()} == {
        0: (("best",), True), 6: (("best",), True), 12: ((), True),  # saved as the last
    }  # fmt: skip


@given(
    st.lists(st.sampled_from([0.1, 0.2, 0.3, math.nan]), min_size=1),
    st.sampled_from([NATS_PER_BYTE, ACCURACY]),
)
def test_the_best_until_now_is_that_of_all_evaluations(values: list[float], metric: Metric) -> None:
    line: dict[str, float] | None = None
    for step, value in enumerate(values):
        line = best_until(step, value, metric, line)
        numbers = [x for x in values[: step + 1] if not math.isnan(x)]
        if numbers:
            best = max(numbers) if metric.higher_is_better else min(numbers)
            assert (line["best_value"], line["best_step"]) == (best, values.index(best))


def test_nothing_is_due_twice_where_a_process_begins() -> None:
    plan, clock = agenda(Now(), first=12), Clock(now=Now())
    plan.marks.drop(("1/4",))
    plan.saver.newest = 12
    assert plan.due(12, clock) == Due(0.0, evaluate=True, stop="budget"), "its last line was torn"
    evaluated(plan, 12, 1.0)
    assert plan.due(12, clock) == Due(0.0, stop="budget")
    resumed = agenda(Now(), first=4)
    resumed.marks.drop(("1/4",))
    assert resumed.due(4, clock) == Due(0.0), "its lines were written before"


def evaluations(plan: Agenda, steps: list[int], clock: Clock, now: Now, seconds_a_step: float) -> list[int]:
    """The steps after which an evaluation is due; each takes a line, rounded as metrics.jsonl has it."""
    due = []
    for step in steps:
        now.seconds = step * seconds_a_step
        if plan.due(step, clock).evaluate:
            due.append(step)
            line = {"step": step, "training_seconds": round(clock.training_seconds, 3)}
            plan.writer.evaluation = {**line, "eval/held_out/loss": 9.0}
        assert not plan.due(step, clock).evaluate, "once"
    return due


@pytest.mark.parametrize(("steps", "per_run"), [(12, 4), (1000, 20), (7, 3), (3, 20), (100, 100)])
def test_evaluations_are_spread_over_a_budget_of_any_length(steps: int, per_run: int) -> None:
    config = Config(
        budget=BudgetConfig(steps=steps), evaluation=EvaluationConfig(every_steps=None, per_run=per_run)
    )
    now = Now()
    expected = sorted({math.ceil(steps * i / per_run) for i in range(1, per_run + 1)})
    whole = evaluations(agenda(now, config=config), [*range(1, steps + 1)], Clock(now=now), now, 0.1)
    assert whole == expected
    for stopped in {1, steps // 2, steps - 1}:  # an interrupted run evaluates after the same updates
        first, second = agenda(now, config=config), agenda(now, config=config, first=stopped)
        parts = evaluations(first, [*range(1, stopped + 1)], Clock(now=now), now, 0.1)
        second.writer.evaluation = first.writer.evaluation
        assert parts + evaluations(second, [*range(stopped, steps + 1)], Clock(now=now), now, 0.1) == expected


def test_evaluations_over_a_budget_of_seconds_follow_the_clock() -> None:
    """10 s and updates of 0.07 s: every 2.5 s. Those by steps come beside them."""
    config = Config(
        budget=BudgetConfig(training_seconds=10.0),
        schedule=ScheduleConfig(follows="training_seconds"),
        evaluation=EvaluationConfig(every_steps=50, per_run=4),
    )
    now = Now()
    plan, clock = agenda(now, config=config), Clock(now=now)
    with clock.running():
        due = evaluations(plan, [*range(1, 144)], clock, now, 0.07)
    assert due == [36, 50, 72, 100, 108, 143], "after 2.52, 5.04, 7.56 and 10.01 s"
