"""What is seen of a run on a terminal of 80 or 100 columns, and in a log."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from tlc_jax.config import BudgetConfig, Config, ScheduleConfig
from tlc_jax.core.clock import Budget
from tlc_jax.core.console import SafeConsole
from tlc_jax.core.progress import stage
from tlc_jax.training.view import View, budget_text, show_facts

LINE = {
    "step": 123_400,
    "training_seconds": 36_000.0,
    "train/loss": 3.02134,
    "train/perplexity": 20.5183,
    "train/learning_rate": 1e-3,
}
EVALUATION = {
    "step": 123_400,
    "training_seconds": 36_000.0,
    "eval/validation/loss": 3.1,
    "eval/validation/perplexity": 22.2,
    "eval/validation/nats_per_byte": 0.91,
    "eval/validation/greedy_bleu": 31.25,
}


def trained(console: Console, title: str | None = None) -> View:
    """The view of a long run in its middle."""
    budget = Budget(BudgetConfig(steps=200_000), "steps", tokens_per_step=8192)
    view = View(console, budget, 0, 0.0, title)
    view.evaluated(EVALUATION)
    view.logged(LINE)
    view.stepped(123_456, 36_016.3)
    return view


@pytest.mark.parametrize("title", [None, "pretrain 2x128, seed 1, of a study with a long name"])
@pytest.mark.parametrize("width", [80, 100])
def test_step_and_time_left_are_never_cut(width: int, title: str | None) -> None:
    console = SafeConsole(file=io.StringIO(), force_terminal=True, width=width, record=True)
    view = trained(console, title)
    console.print(view._bar.get_renderable())
    [bar] = [line for line in console.export_text().splitlines() if "━" in line]
    assert len(bar) <= width
    assert bar.startswith("step 123,456  62 % 6 h 12 min left ━")
    rest = bar.rpartition("━")[2].strip()
    whole = "  ".join(filter(None, [title, "validation: loss 3.1  perplexity 22.2"]))
    assert rest.endswith("…")
    assert whole.startswith(rest[:20])
    assert len(rest) >= width - 55


def test_an_evaluation_is_broken_between_its_values() -> None:
    """Not where a terminal would break it, in the middle of a word."""
    console = SafeConsole(file=io.StringIO(), force_terminal=True, width=60, record=True)
    values = [f"{'nats_per_byte' if n % 2 else 'greedy_bleu'} {n}.125" for n in range(9)]
    line = {f"eval/validation/{name}": float(x) for name, x in map(str.split, values[:2])}
    for start in range(40):  # each value comes to stand at the edge
        View(console, Budget(BudgetConfig(steps=9), "steps", 1), 0, 0.0, "t" * start).evaluated(
            {"step": 1_000, "training_seconds": 60.0, **line}
        )
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= 60
    assert len(lines) > 40
    assert sum("nats_per_byte 1.125" in line for line in lines) == 40
    assert sum("greedy_bleu 0.125" in line for line in lines) == 40


def test_a_log_has_the_same_in_lines() -> None:
    console = SafeConsole(file=io.StringIO(), width=10_000, record=True)
    with trained(console):
        pass
    assert console.export_text().splitlines() == [
        "step 123,400  10 h 00 min  validation: loss 3.1  perplexity 22.2  nats_per_byte 0.91  "
        "greedy_bleu 31.25",
        "step 123,400  6 h 12 min left  loss 3.021  perplexity 20.52  28,080 tokens/s",
    ]


@pytest.mark.parametrize("width", [80, 100])
def test_other_long_work_shows_its_share_and_time_whatever_its_title(width: int) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=width, record=True)
    with stage(console, "Reading " + "a long path/" * 20, 10, "lines") as advance:
        advance(4)
    bars = re.findall(r" *\d+ % [-:\d]+ .*?…", console.export_text())
    assert bars[-1].startswith(" 40 % -:--:-- ━")
    assert all(len(bar) <= width and "0:00:00 Reading a long path/" in bar for bar in bars)


def test_facts_are_wrapped_beside_their_names() -> None:
    console = SafeConsole(file=io.StringIO(), force_terminal=True, width=40, record=True)
    show_facts(console, {"data": "one two three four five six seven eight nine", "budget": "12 updates"})
    assert console.export_text().splitlines() == [
        "data       one two three four five six",
        "           seven eight nine",
        "budget     12 updates",
    ]


@pytest.mark.parametrize(("per_step", "shown"), [(0.0692, " (415 epochs)"), (1 / 4000, " (1.5 epochs)")])
def test_a_budget_of_updates_is_shown_in_epochs_too(per_step: float, shown: str) -> None:
    config = Config(budget=BudgetConfig(steps=6000), schedule=ScheduleConfig(follows="steps"))
    assert budget_text(config) == "6,000 updates"
    assert budget_text(config, lambda step: step * per_step) == f"6,000 updates{shown}"
