"""What a run prints: facts by name, then a progress bar on a terminal, or plain lines."""

from __future__ import annotations

import contextlib
import functools
import re
import textwrap
from collections.abc import Callable, Iterator
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, TextColumn

from tlc_jax.config import Config
from tlc_jax.config.saved import flat
from tlc_jax.core.clock import Budget
from tlc_jax.core.console import SafeConsole
from tlc_jax.core.progress import duration, progress_bar, stage
from tlc_jax.parallel import hosts

_ESTIMATE_AFTER = 10  # steps until the first estimate of the time left
_NAMES, _BAR = 11, 12  # columns


def make_console(stderr: bool = False) -> Console:
    """A console on standard output or standard error, quiet in all processes but the first. Plain lines are
    not wrapped."""
    plain = functools.partial(SafeConsole, stderr=stderr, quiet=not hosts.is_first())
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
    """Print facts by name, in lines that fit the console."""
    for name, value in facts.items():
        first, *more = textwrap.wrap(
            value, console.width - _NAMES, break_on_hyphens=False, break_long_words=False
        ) or [""]
        console.print(f"{name:{_NAMES}s}{first}", soft_wrap=True)
        for line in more:
            console.print(" " * _NAMES + line, soft_wrap=True)


def _wrapped(text: str, width: int) -> list[str]:
    """The text in lines of at most `width` columns, broken only where there are two spaces."""
    glued = re.sub(r"(?<! ) (?! )", "\N{NO-BREAK SPACE}", text)
    lines = textwrap.wrap(
        glued, width, subsequent_indent="    ", break_on_hyphens=False, break_long_words=False
    )
    return [line.replace("\N{NO-BREAK SPACE}", " ") for line in lines]


def budget_text(config: Config, epochs: Callable[[int], float] | None = None) -> str:
    """How long a run will take, as far as its config says; in epochs too, if their number is known at a
    step."""
    steps, seconds, tokens = (
        getattr(config.budget, name) for name in ("steps", "training_seconds", "tokens")
    )
    parts = []
    if seconds is not None:
        parts.append(f"{duration(seconds)} of training, not counting compilation, evaluation and saving")
    if steps is not None:
        count = 0.0 if epochs is None else epochs(steps)
        passes = f" ({count:,.0f} epochs)" if count >= 10 else f" ({count:.2g} epochs)" if count else ""
        parts.append(f"{steps:,} updates{passes}")
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
        self._latest: dict[str, str] = {"title": title} if title else {}
        self._prefix = f"{title}  " if title else ""
        self._bar = progress_bar(
            console,
            TextColumn("step {task.fields[step]:,}"),
            TextColumn("{task.percentage:3.0f} %"),
            TextColumn("{task.fields[left]}"),
            BarColumn(_BAR),
            text="{task.fields[text]}",
        )
        self._task = self._bar.add_task("", total=1.0, step=first_step, left="", text="")

    def __enter__(self) -> View:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    @contextlib.contextmanager
    def compiling(self, shapes: int) -> Iterator[Callable[[float], None]]:
        """While so many shapes of batches are compiled; call what it gives when some of them are done."""
        with stage(self._console, "compiling", shapes, "shapes" if shapes > 1 else "shape") as advance:
            yield advance

    def stepped(self, step: int, seconds: float) -> None:
        """After each step."""
        used, left = self._budget.used(step, seconds), self._left(step, seconds)
        text = "  ".join(self._latest.values())
        self._bar.update(self._task, completed=used, step=step, left=left, text=text)

    def logged(self, line: dict[str, Any]) -> None:
        """A training line was written."""
        step, seconds = line["step"], line["training_seconds"]
        pace = (step - self._last[0]) * self._budget.tokens_per_step / max(seconds - self._last[1], 1e-9)
        self._last = (step, seconds)
        shown = {key: line[f"train/{key}"] for key in ("loss", "perplexity") if f"train/{key}" in line}
        text = "  ".join(f"{key} {value:.4g}" for key, value in shown.items())
        self._latest["train"] = f"{text}  {pace:,.0f} tokens/s"
        if not self._console.is_terminal:
            parts = (f"{self._prefix}step {step:,}", self._left(step, seconds), self._latest["train"])
            self._console.print("  ".join(filter(None, parts)))

    def warned(self, text: str) -> None:
        """Print a problem that does not end the run."""
        self._console.print(f"{self._prefix}warning: {text}")

    def evaluated(self, line: dict[str, Any]) -> None:
        """An evaluation line was written."""
        sets: dict[str, list[str]] = {}
        for key, value in line.items():
            if key.startswith("eval/"):
                _, name, metric = key.split("/", 2)
                sets.setdefault(name, []).append(f"{metric} {value:.4g}")
        texts = [f"{name}: {'  '.join(metrics)}" for name, metrics in sets.items()]
        self._latest["eval"] = "  ".join(texts)
        for text in texts:
            after = duration(line["training_seconds"])
            whole = f"{self._prefix}step {line['step']:,}  {after}  {text}"
            for part in _wrapped(whole, self._console.width):
                self._console.print(part, soft_wrap=True)

    def _left(self, step: int, seconds: float) -> str:
        """`1 h 05 min left`; nothing before there are steps to estimate it from."""
        if step - self._first[0] < _ESTIMATE_AFTER:
            return ""
        used, began = self._budget.used(step, seconds), self._budget.used(*self._first)
        pace = (seconds - self._first[1]) / max(used - began, 1e-12)
        return f"{duration(pace * (1 - used))} left"
