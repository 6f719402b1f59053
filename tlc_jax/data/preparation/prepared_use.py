"""What prepared data are good for: the next command, or why `train` would refuse them."""

from __future__ import annotations

import shlex
from pathlib import Path

from tlc_jax.core.errors import UserError
from tlc_jax.core.invocation import command
from tlc_jax.core.printable import first_of
from tlc_jax.data.labelled.labelled_source import TRAIN
from tlc_jax.data.labelled.labelled_tables import open_tables
from tlc_jax.data.labelled.labels import UNLABELLED
from tlc_jax.data.preparation.preparation_plan import Plan
from tlc_jax.data.preparation.public_data import LABELLED
from tlc_jax.data.tables import jsonl_objects


def what_next(plan: Plan, out: Path, of_user: bool) -> tuple[list[str], list[str]]:
    """Sentences on what `train` would refuse in data of the user, and the next commands."""
    folder = shlex.quote(str(out))
    train = [command(f"train {plan.options} --workdir W --data.dir {folder}")]
    if plan.kind != LABELLED or not of_user:
        return [], train
    try:
        open_tables(str(out))
    except UserError as error:
        sets = list(dict.fromkeys(unit.split for unit in plan.units))
        if not _has_labels(out):
            predict = command(f"evaluate RUN --predictions labels.jsonl --data.dir {folder}")
            if not plan.unused:
                return ["no row has a label: these data can only be predicted"], [predict]
            meant = first_of(sorted(plan.unused))
            return [
                f"no row has a label; the columns that are not used are {meant}: if one of them holds the "
                "labels, prepare again, to another --out, with --columns label=NAME beside the others"
            ], []
        if TRAIN not in sets:
            evaluate = command(f"evaluate RUN --data.dir {folder}")
            return [f"there is no set {TRAIN} to train on, only {first_of(sets)}"], [evaluate]
        return [f"train would refuse these data: {error}"], []
    return [], train


def _has_labels(out: Path) -> bool:
    """Whether any row of the tables in a folder has a label."""
    rows = (row for path in sorted(out.glob("*.jsonl.zst")) for _, row in jsonl_objects(path))
    return any(str(row.get("label", UNLABELLED)) != UNLABELLED for row in rows)
