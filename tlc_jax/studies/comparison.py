"""One command, one study: its folder, its runs, then the table, the words and the picture."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from rich.console import Console

from tlc_jax.config.study_options import StudyConfig
from tlc_jax.core.errors import UserError
from tlc_jax.storage.lock import locked
from tlc_jax.storage.paths import AnyPath, make_folder
from tlc_jax.storage.run_directory import differences, write_json
from tlc_jax.storage.untrusted import read_json
from tlc_jax.studies.figure import draw
from tlc_jax.studies.grid import run_study
from tlc_jax.studies.result_store import ResultStore
from tlc_jax.studies.results import check_result
from tlc_jax.studies.verdict import headline, table
from tlc_jax.training.view import make_console


def study(config: StudyConfig, workdir: AnyPath) -> None:
    """Runs what is not done yet, then writes study.png and prints what came of it."""
    console = make_console()
    _open(config, workdir)
    with locked(workdir):
        _study(config, workdir, console)


def _study(config: StudyConfig, workdir: AnyPath, console: Console) -> None:
    store = ResultStore(workdir / "results.jsonl", check_result)
    run_study(config, workdir, store, console)
    console.print(table(store))
    for sentence in headline(store):
        console.print(sentence)
    draw(store, workdir / "study.png")
    console.print(f"picture: {workdir / 'study.png'}, numbers: {workdir / 'results.jsonl'}")


def _open(config: StudyConfig, workdir: AnyPath) -> None:
    """The study's folder; another study in it, or anything else, is refused."""
    record, new = workdir / "study.json", json.loads(json.dumps(dataclasses.asdict(config)))
    if record.exists():
        _check_same(record, new)
        return
    if workdir.exists() and (not workdir.is_dir() or any(workdir.iterdir())):
        raise UserError(f"--workdir {workdir} is not empty and holds no study: give a new folder")
    make_folder(workdir)
    write_json(record, new)


def _check_same(record: AnyPath, new: dict[str, Any]) -> None:
    """UserError naming what differs in the config that the study began with."""
    try:
        old = read_json(record)
        if not isinstance(old, dict):
            raise ValueError("it is no JSON object")
    except ValueError as error:
        raise UserError(
            f"{record} is not the config of a study ({error}): put the study's own back"
        ) from error
    before, now = _flat(old), _flat(new)
    if before.keys() != now.keys():
        names = ", ".join(sorted(before.keys() ^ now.keys())[:5])
        raise UserError(
            f"{record} was written by another version of tlc_jax, or changed ({names}): go on with that "
            "version, or give a new --workdir"
        )
    if changed := differences(now, before, "the study"):
        raise UserError(
            f"--workdir {record.parent} holds a study of another config: {changed}. Give a new folder, or "
            "the study's own command to go on with it"
        )


def _flat(value: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{'pretrain.model.num_layers': 12, ...}`."""
    found: dict[str, Any] = {}
    for name, inner in value.items():
        found |= _flat(inner, f"{prefix}{name}.") if isinstance(inner, dict) else {f"{prefix}{name}": inner}
    return found
