"""The training loop: updates until something stops them, and after each what is due."""

from __future__ import annotations

import dataclasses

import jax

from tlc_jax.core import stopping
from tlc_jax.core.clock import FirstStep
from tlc_jax.core.errors import Interrupted, SaveFailed
from tlc_jax.data.batches import Prefetcher
from tlc_jax.parallel import hosts
from tlc_jax.training.due import Due
from tlc_jax.training.session import Session
from tlc_jax.training.skipped import NotFinite
from tlc_jax.training.watchdog import Watchdog


def train(session: Session) -> bool:
    """Train until the budget is used or the target is reached; False if the run was complete already.

    Raises Interrupted, after saving, when a deadline is near or a signal came. Before any other exception
    leaves, the state is saved too if possible.
    """
    if session.complete():
        _evaluate_again(session)
        return False
    stopping.check()
    first = session.step
    try:
        with session.view:
            if first > 0 or not _enough_already(session):
                _train(session)
    except (SaveFailed, NotFinite):  # it cannot be saved, or is not worth it
        raise
    except BaseException as error:
        if session.step > first and hosts.count() == 1:  # other processes would not save their parts
            session.rescue(error)
        raise
    return True


def _train(session: Session) -> None:
    skipped, view = session.agenda.skipped, session.view
    first, in_flight, lockstep = FirstStep(session.clock), None, hosts.lockstep()
    due = Due(session.seconds())
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
            due = session.due()
            if due.log:
                session.log()
            if due.evaluate:
                session.evaluate()
                if session.reached():
                    due = dataclasses.replace(due, save=True, stop="target")
            if due.save:
                session.save(last=bool(due.stop))
            elif due.failed_save:
                session.settle_save()
            watchdog.alive(session.step)
            view.stepped(session.step, session.clock.training_seconds)
    if due.stop in ("deadline", "signal"):
        seconds = session.config.stop_after
        why = "interrupted" if due.stop == "signal" else f"stopped before {seconds:g} s are over,"
        raise Interrupted(f"{why} after step {session.step}, saved; {stopping.AGAIN}")


def _enough_already(session: Session) -> bool:
    """Whether a run has reached its target before its first update; then its first state is saved."""
    if session.config.evaluation.stop_at is None:
        return False
    if not session.evaluated():
        session.evaluate()
    if session.reached():
        session.save(last=True)
    return session.reached()


def _evaluate_again(session: Session) -> None:
    """Repeat the last evaluation of a complete run whose line was torn."""
    if not session.evaluated():
        session.evaluate()
        session.writer.settle()
