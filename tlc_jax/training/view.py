"""What a run prints: first its config and facts, then a progress bar on a terminal, or plain lines."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Iterator
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from tlc_jax.config import Config
from tlc_jax.config.saved import flat
from tlc_jax.core.clock import Budget
from tlc_jax.core.console import SafeConsole
from tlc_jax.core.progress import duration, stage
from tlc_jax.parallel import hosts

_ESTIMATE_AFTER = 10  # steps until the first estimate of the time left


def make_console() -> Console:
    """A console on standard output, quiet in all processes but the first. Plain lines are not wrapped."""
    plain = functools.partial(SafeConsole, quiet=not hosts.is_first())
    return plain() if plain().is_terminal else plain(width=10_000)


def show_config(console: Console, config: Config, document: Config) -> None:
    """Print every field of the config, and the value in the document where options changed it."""
    values, original = flat(config), flat(document)
    section = None
    for name, value in values.items():
        head, _, tail = name.rpartition(".")
        if head != section:
            section = head
            console.print(head or "run", style="bold")
        changed = value != original[name]
        note = f"   (file: {original[name]})" if changed else ""
        console.print(f"  {tail:22s} {value}{note}", style="yellow" if changed else None)


def show_facts(console: Console, facts: dict[str, str]) -> None:
    """Print facts by name: devices, size, data, destination."""
    console.print("facts", style="bold")
    for name, value in facts.items():
        console.print(f"  {name:22s} {value}", soft_wrap=True)


def budget_text(config: Config) -> str:
    """How long a run will take, as far as its config tells."""
    steps, seconds, tokens = (
        getattr(config.budget, name) for name in ("steps", "training_seconds", "tokens")
    )
    parts = []
    if seconds is not None:
        parts.append(f"{duration(seconds)} of training, plus compilation, evaluation and saving")
    if steps is not None:
        parts.append(f"{steps:,} steps; their time is shown after the first {_ESTIMATE_AFTER}")
    if tokens is not None:
        parts.append(f"{tokens:,} tokens")
    return ", or ".join(parts) + (", whichever ends first" if len(parts) > 1 else "")


class View:
    """The progress of training; a context manager."""

    def __init__(
        self,
        console: Console,
        budget: Budget,
        first_step: int,
        first_seconds: float,
        title: str | None = None,
    ):
        self._console, self._budget = console, budget
        self._first = self._last = (first_step, first_seconds)
        self._estimated = False
        self._latest: dict[str, str] = {}
        self._prefix = f"{title}  " if title else ""
        self._bar = Progress(
            TextColumn(self._prefix + "step {task.fields[step]:,}"),
            BarColumn(),
            TextColumn("{task.percentage:3.0f} %  {task.fields[text]}"),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("", total=1.0, step=first_step, text="")

    def __enter__(self) -> View:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    @contextlib.contextmanager
    def compiling(self, shapes: int) -> Iterator[Callable[[float], None]]:
        """While so many shapes of batches are compiled; call what it gives when some of them are done."""
        if shapes > 1:
            with stage(self._console, "compiling", shapes, "shapes") as advance:
                yield advance
            return
        self._console.print("compiling")
        began = time.monotonic()
        yield lambda count: None
        self._console.print(f"compiled in {time.monotonic() - began:.1f} s")

    def stepped(self, step: int, seconds: float) -> None:
        """After each step."""
        used = self._budget.used(step, seconds)
        self._bar.update(self._task, completed=used, step=step, text="  ".join(self._latest.values()))
        if not self._estimated and step - self._first[0] >= _ESTIMATE_AFTER:
            self._estimated = True
            pace = (seconds - self._first[1]) / (step - self._first[0])
            self._console.print(
                f"{self._prefix}time: {self._left(step, seconds)} left at {1000 * pace:.0f} ms a step"
            )

    def logged(self, line: dict[str, Any]) -> None:
        """A training line was written."""
        step, seconds = line["step"], line["training_seconds"]
        pace = (step - self._last[0]) * self._budget.tokens_per_step / max(seconds - self._last[1], 1e-9)
        self._last = (step, seconds)
        shown = {key: line[f"train/{key}"] for key in ("loss", "perplexity") if f"train/{key}" in line}
        text = "  ".join(f"{key} {value:.4g}" for key, value in shown.items())
        self._latest["train"] = f"{text}  {pace:,.0f} tokens/s  {self._left(step, seconds)} left"
        if not self._console.is_terminal:
            self._console.print(f"{self._prefix}step {step:,}  {self._latest['train']}")

    def warned(self, text: str) -> None:
        """Print a problem that does not end the run."""
        self._console.print(f"{self._prefix}warning: {text}")

    def evaluated(self, line: dict[str, Any]) -> None:
        """An evaluation line was written."""
        values = {key.removeprefix("eval/"): value for key, value in line.items() if key.startswith("eval/")}
        text = "  ".join(f"{key} {value:.4g}" for key, value in values.items())
        self._console.print(
            f"{self._prefix}step {line['step']:,}  {duration(line['training_seconds'])}  {text}"
        )
        self._latest["eval"] = "  ".join(
            f"{key} {value:.4g}" for key, value in values.items() if not key.endswith("/loss")
        )

    def _left(self, step: int, seconds: float) -> str:
        used, began = self._budget.used(step, seconds), self._budget.used(*self._first)
        pace = (seconds - self._first[1]) / max(used - began, 1e-12)
        return duration(pace * (1 - used))
