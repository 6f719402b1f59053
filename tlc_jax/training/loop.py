"""The training loop: updates until something stops them, and after each what is due."""

from __future__ import annotations

import jax

from tlc_jax.core import stopping
from tlc_jax.core.clock import FirstStep
from tlc_jax.core.errors import Interrupted, NotFinite, SaveFailed
from tlc_jax.data.batches import Prefetcher
from tlc_jax.parallel import hosts
from tlc_jax.parallel.hosts import leader
from tlc_jax.training.due import Due, Stop
from tlc_jax.training.session import Session
from tlc_jax.training.watchdog import Watchdog


def train(session: Session) -> Stop:
    """Train until the budget is used or the target is reached; returns which of the two. A run that is
    complete already is left as it is.

    Raises Interrupted, after saving, when a deadline is near or a signal came. Before any other exception
    leaves, the state is saved too if possible.
    """
    first = session.step
    try:
        with session.view:
            due = _do_what_is_due(session)  # of a new run, the evaluation before its first update
            if not due.stop:
                stopping.check()
                due = _update(session, due)
    except (SaveFailed, NotFinite):  # it cannot be saved, or is not worth it
        raise
    except BaseException as error:
        if session.step > first and hosts.count() == 1:  # other processes would not save their parts
            session.rescue(error)
        raise
    if due.stop in ("deadline", "signal"):
        seconds = session.config.stop_after
        why = "interrupted" if due.stop == "signal" else f"stopped before {seconds:g} s are over,"
        raise Interrupted(f"{why} after step {session.step}, saved; {stopping.AGAIN}")
    return due.stop


def _update(session: Session, due: Due) -> Due:
    """Update the parameters until something stops it; returns what was due last."""
    skipped, view = session.agenda.skipped, session.view
    first, in_flight, lockstep = FirstStep(session.clock), None, hosts.lockstep()
    with (
        Watchdog(session.config.hung_after, view.warned) as watchdog,
        Prefetcher(session.batch, session.step) as batches,
        session.clock.running(),
    ):
        while not due.stop:
            sums = session.advance(next(batches), due.seconds)
            if in_flight is not None:
                skipped.add(session.step - 1, in_flight)  # waits for the step before: no device idles
            in_flight = sums
            if first.pending() or lockstep:
                jax.block_until_ready((session.state, sums))
            if first.pending():
                first.ended()
            due = _do_what_is_due(session)
            watchdog.alive(session.step)
            view.stepped(session.step, session.clock.training_seconds)
    return due


def _do_what_is_due(session: Session) -> Due:
    """Log, evaluate and save as is due after the step that just ended; what was due last says why to stop."""
    due = session.due()
    if due.log:
        session.log()
    if due.evaluate:
        session.evaluate()
        due = session.due()
    if due.save:
        session.save(last=bool(due.stop))
    elif due.failed_save:
        session.settle_save()
    if due.stop:
        leader.decide(session.writer.settle)
    return due
