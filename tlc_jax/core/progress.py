"""Progress of long work: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column

from tlc_jax.core import stopping

_PLAIN_EVERY = 10.0  # seconds between plain lines
_BAR = 16  # columns


def duration(seconds: float) -> str:
    """`42 s`, `3 min 05 s`, `2 h 10 min`, `3 d 04 h`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 48 * 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600:02d} h"


def progress_bar(console: Console, *columns: ProgressColumn, text: str, transient: bool = False) -> Progress:
    """A bar as wide as the terminal, on terminals only. `columns` come first and are shown whole; of `text`,
    a format such as `{task.description}`, what does not fit after them is cut."""
    rest = Column(ratio=1, no_wrap=True, overflow="ellipsis")
    return Progress(
        *columns,
        TextColumn(text, markup=False, table_column=rest),  # paths hold [brackets]
        console=console,
        expand=True,
        transient=transient,
        disable=not console.is_terminal,
    )


@contextlib.contextmanager
def stage(
    console: Console,
    title: str,
    total: float | None,
    unit: str,
    *,
    bar: bool = True,
    only_long: bool = False,
) -> Iterator[Callable[[float], None]]:
    """A context that gives a function to advance the stage by an amount of `unit`; `total` may be unknown.

    Without `bar`, a terminal gets none either; of `only_long` stages, those that end before the first plain
    line are not mentioned.
    """
    started = last = time.monotonic()
    done = 0.0
    drawn = progress_bar(
        console,
        TextColumn("{task.percentage:3.0f} %"),
        TimeRemainingColumn(),
        BarColumn(_BAR),
        TimeElapsedColumn(),
        text="{task.description}",
        transient=True,
    )
    drawn.disable = drawn.disable or not bar
    task = drawn.add_task(title, total=total)

    def advance(amount: float) -> None:
        nonlocal done, last
        stopping.check()
        done += amount
        drawn.advance(task, amount)
        if not console.is_terminal and time.monotonic() - last > _PLAIN_EVERY:
            last = time.monotonic()
            of = left = ""
            if total and done:
                seconds = (last - started) * max(total - done, 0) / done
                of, left = f" of {total:,.0f}", f", {duration(seconds)} left"
            console.print(f"{title}: {done:,.0f}{of} {unit}{left}", markup=False)

    with drawn:
        yield advance
    seconds = time.monotonic() - started
    if not only_long or seconds > _PLAIN_EVERY:
        console.print(f"{title}: {done:,.0f} {unit} in {duration(seconds)}", markup=False)
