"""The study command: its folder, its runs, then the table, the headline and the picture."""

from __future__ import annotations

import dataclasses
from typing import Any

from tlc_jax.config.saved import config_from_json, differences, flat
from tlc_jax.config.study_options import StudyConfig
from tlc_jax.core.errors import UserError
from tlc_jax.storage.lock import locked
from tlc_jax.storage.paths import AnyPath, make_folder
from tlc_jax.storage.run_directory import write_json
from tlc_jax.storage.untrusted import read_json
from tlc_jax.studies.figure import draw
from tlc_jax.studies.grid import run_study
from tlc_jax.studies.result_store import ResultStore
from tlc_jax.studies.results import check_result
from tlc_jax.studies.verdict import headline, table
from tlc_jax.training.view import make_console


def study(config: StudyConfig, workdir: AnyPath) -> None:
    """Run what is not finished, then write study.png and print the results."""
    console = make_console()
    _open(config, workdir)
    with locked(workdir):
        store = ResultStore(workdir / "results.jsonl", check_result)
        run_study(config, workdir, store, console)
        console.print(table(store))
        for sentence in headline(store):
            console.print(sentence)
        draw(store, workdir / "study.png")
    console.print(f"picture: {workdir / 'study.png'}, numbers: {workdir / 'results.jsonl'}")


def _open(config: StudyConfig, workdir: AnyPath) -> None:
    """Open the study's folder; UserError if it holds another study or anything else."""
    record = workdir / "study.json"
    if record.exists():
        _check_same(record, config)
        return
    if workdir.exists() and (not workdir.is_dir() or any(workdir.iterdir())):
        raise UserError(f"--workdir {workdir} is not empty and holds no study: give a new folder")
    make_folder(workdir)
    fields = dataclasses.asdict(config)
    fields["compression"]["steps"] = _steps(config)
    write_json(record, fields)


def _steps(config: StudyConfig) -> list[Any]:
    """The further steps of the compression as study.json holds them: with their names, not as instances."""
    steps: list[Any] = config.compression.recorded().get("steps", [])
    return steps


def _check_same(record: AnyPath, config: StudyConfig) -> None:
    """UserError if the study began with another config; it names the fields that differ."""
    try:
        fields, steps = read_json(record), list[Any]()
        if isinstance(fields, dict) and isinstance(fields.get("compression"), dict):
            steps = fields["compression"].get("steps", steps)
            fields["compression"] |= {"steps": []}
        before: StudyConfig = config_from_json(fields, StudyConfig)
    except (ValueError, TypeError) as error:
        raise UserError(
            f"{record} is not the config of a study ({error}): restore it, or give a new --workdir"
        ) from error
    now = {**flat(config), "compression.steps": _steps(config)}
    if changed := differences(now, {**flat(before), "compression.steps": steps}, "the study"):
        raise UserError(
            f"--workdir {record.parent} holds a study of another config: {changed}. Give a new folder, or "
            "resume the study with its own command"
        )
