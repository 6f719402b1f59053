"""The evaluations of a finished run of a study, and whether a run is still the one whose result is stored."""

from __future__ import annotations

from typing import Any

from tlc_jax.core.errors import UserError
from tlc_jax.storage.run_directory import RunDir, split_mark
from tlc_jax.studies.item_store import Result
from tlc_jax.studies.study_folder import StudyFolder
from tlc_jax.training.metrics import read_metrics

EVALUATED = "eval/"


def evaluations(rundir: RunDir) -> list[dict[str, Any]]:
    """The lines of a finished run's metrics that have evaluations, each with the `training_loss` of the last
    updates before it; UserError if there are none of its training."""
    lines, loss = [], dict[str, Any]()
    for line in read_metrics(rundir.metrics):
        if "train/loss" in line:
            loss = {"training_loss": line["train/loss"]}
        if any(key.startswith(EVALUATED) for key in line):
            lines.append({**line, **loss})
    if not lines or lines[-1]["step"] == 0:
        raise UserError(
            f"{rundir.metrics} lacks the evaluations of a finished run: restore the run's own file"
        )
    return lines


def kept_by(name: str, study: StudyFolder) -> str:
    """The reference of the parameters that a finished run, or a round of pruning with recovery, keeps."""
    return str(study.run(kept_run(study.store.result(name))).root)


def kept_run(result: Result) -> str:
    """The run of a result, with the mark of what is kept; another run where a round had no update."""
    return str(result["rows"][-1].get("kept_run", result["item"]))


def spent_in_recovery(result: Result) -> dict[str, Any]:
    """The updates and the training seconds of all rounds that led to a model; nothing without rounds."""
    last = result["rows"][-1]
    return {name: last[name] for name in ("recovery_steps", "recovery_seconds") if name in last}


def check_run(name: str, study: StudyFolder) -> None:
    """UserError unless the run of a finished item still has the evaluations of what its result keeps."""
    result = study.store.result(name)
    other, _, _ = kept_run(result).partition("@")
    if other != name:
        check_run(other, study)
        return
    rundir, mark = split_mark(kept_by(name, study))
    lines = evaluations(rundir)[-1:] if mark is None else read_metrics(rundir.metrics)
    for row in result["rows"]:
        key = f"{EVALUATED}{row['set']}/{row['metric']}"
        kept = [line for line in lines if key in line and (mark is None or line["step"] == row["step"])]
        value = kept[-1][key] if kept else None
        if row["last"] and value != row["value"]:
            raise UserError(
                f"{rundir.root} is not the run of {study.store.path(name)}: its {row['metric']} on "
                f"{row['set']} is {value}, not {row['value']}. Restore the run, or remove both to train it "
                "again"
            )
