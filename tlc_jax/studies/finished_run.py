"""The evaluations of a finished run of a study, and whether a run is still the one whose result is stored."""

from __future__ import annotations

from typing import Any

from tlc_jax.core.errors import UserError
from tlc_jax.storage.run_directory import RunDir
from tlc_jax.studies.study_folder import StudyFolder
from tlc_jax.training.metrics import read_metrics

EVALUATED = "eval/"


def evaluations(rundir: RunDir) -> list[dict[str, Any]]:
    """The lines of a finished run's metrics that have evaluations; UserError if there are none of its
    training."""
    lines = [line for line in read_metrics(rundir.metrics) if any(key.startswith(EVALUATED) for key in line)]
    if not lines or lines[-1]["step"] == 0:
        raise UserError(
            f"{rundir.metrics} lacks the evaluations of a finished run: restore the run's own file"
        )
    return lines


def check_run(name: str, study: StudyFolder) -> None:
    """UserError unless the run of a finished item still has the last evaluations that its result has."""
    rundir = study.run(name)
    last = evaluations(rundir)[-1]
    for row in study.store.result(name)["rows"]:
        value = last.get(f"{EVALUATED}{row['set']}/{row['metric']}")
        if row["last"] and value != row["value"]:
            raise UserError(
                f"{rundir.root} is not the run of {study.store.path(name)}: its {row['metric']} on "
                f"{row['set']} is {value}, not {row['value']}. Restore the run, or remove both to train it "
                "again"
            )
