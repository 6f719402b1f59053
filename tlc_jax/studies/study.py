"""One command, one study: its folder, its runs, then the table, the words and the picture."""

from __future__ import annotations

import dataclasses
import json

from rich.console import Console

from tlc_jax.core.errors import UserError
from tlc_jax.core.lock import locked
from tlc_jax.core.place import Place, make_folder
from tlc_jax.core.rundir import write_json
from tlc_jax.studies.config import StudyConfig
from tlc_jax.studies.figure import draw
from tlc_jax.studies.grid import run_study
from tlc_jax.studies.store import ResultStore
from tlc_jax.studies.verdict import headline, table
from tlc_jax.training.view import make_console


def study(config: StudyConfig, workdir: Place) -> None:
    """Runs what is not done yet, then writes study.png and prints what came of it."""
    console = make_console()
    _open(config, workdir)
    with locked(workdir):
        _study(config, workdir, console)


def _study(config: StudyConfig, workdir: Place, console: Console) -> None:
    store = ResultStore(workdir / "results.jsonl")
    run_study(config, workdir, store, console)
    draw(store, workdir / "study.png")
    console.print(table(store))
    for sentence in headline(store):
        console.print(sentence)
    console.print(f"picture: {workdir / 'study.png'}, numbers: {workdir / 'results.jsonl'}")


def _open(config: StudyConfig, workdir: Place) -> None:
    """The study's folder; another study in it, or anything else, is refused."""
    record, mine = workdir / "study.json", json.loads(json.dumps(dataclasses.asdict(config)))
    if record.exists():
        if json.loads(record.read_text()) != mine:
            raise UserError(
                f"--workdir {workdir} holds a study of another config: give a new folder, or the study's own "
                "command to go on with it"
            )
        return
    if workdir.exists() and (not workdir.is_dir() or any(workdir.iterdir())):
        raise UserError(f"--workdir {workdir} is not empty and holds no study: give a new folder")
    make_folder(workdir)
    write_json(record, mine)
