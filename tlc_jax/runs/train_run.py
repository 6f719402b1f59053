"""A run from its beginning, or from where it was interrupted, to its end."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from tlc_jax.config import Config
from tlc_jax.runs.assemble import assemble
from tlc_jax.runs.begin import Begin, Fresh
from tlc_jax.runs.facts import Document, next_commands, result
from tlc_jax.runs.open_run import open_run
from tlc_jax.storage.paths import AnyPath
from tlc_jax.training import loop
from tlc_jax.training.trackers import Tracker
from tlc_jax.training.view import make_console


def train_run(
    config: Config,
    workdir: AnyPath,
    begin: Begin | None = None,
    console: Console | None = None,
    *,
    document: Document | None = None,
    title: str | None = None,
    trackers: Sequence[Tracker] = (),
) -> None:
    """Train a run, or resume it. UserError where the input is wrong, Interrupted after a signal.

    `document` is what the config comes from. With a `title` the run is a part of something larger: facts,
    its result and what to do next are not printed, and the title stands before its progress. `trackers` get
    the lines of metrics.jsonl.
    """
    console = console or make_console()
    with open_run(config, workdir, begin or Fresh(), console, document=document, title=title) as run:
        session = assemble(run, trackers)
        first, stop = session.step, loop.train(session)
    why = ""
    if stop == "target":
        metric, target = run.task.primary_metric.name, run.config.evaluation.stop_at
        why = f": {metric} has reached evaluation.stop_at {target:g}"
    if session.step > first:
        console.print(f"done: {session.step:,} steps in {workdir}{why}")
    else:
        console.print(f"complete: {session.step:,} steps, nothing left to do in {workdir}{why}")
    if title is None and session.writer.evaluation is not None:
        console.print(result(run.task, session.writer.evaluation))
        for command in next_commands(run.config, str(workdir)):
            console.print(f"next: {command}", soft_wrap=True)
