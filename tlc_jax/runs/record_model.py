"""The record of a model's training (artifacts/model_record.py), from its run directory or its artifact."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import Any

from rich.console import Console

from tlc_jax.artifacts.artifact import WEIGHTS, is_artifact
from tlc_jax.artifacts.manifest import artifact_manifest
from tlc_jax.artifacts.model_record import ModelRecord
from tlc_jax.core.errors import UserError, one_line
from tlc_jax.core.printable import printable
from tlc_jax.core.schema import checked
from tlc_jax.data.provenance import sources_of
from tlc_jax.runs.begin_from_folder import SCHEME
from tlc_jax.runs.load import TrainedModel
from tlc_jax.runs.starts import read_starts
from tlc_jax.storage.run_directory import RunDir
from tlc_jax.storage.sealed import Damaged, read_manifest
from tlc_jax.training.metrics import read_metrics

_AMOUNTS = {"training_seconds": "training_seconds", "tokens": "tokens", "epoch": "epochs", "flops": "flops"}
"""Keys of metrics.jsonl and of the record."""
_MOST = 100  # names of sources


def record_model(model: TrainedModel, console: Console) -> ModelRecord:
    """What is known of the training of a model, with its metric if it is that of an artifact. What cannot be
    read is reported and left out: a card is no reason to refuse a model."""
    if is_artifact(model.rundir.root):
        manifest = artifact_manifest(model.rundir.root, WEIGHTS)
        return manifest.get("training", {"updates": model.step})
    record: dict[str, Any] = {"updates": model.step, "seed": model.config.seed}
    for part in (_amounts, _starts, _data):
        try:
            record = {**checked({**record, **part(model.rundir, model.step)}, ModelRecord)}
        except (UserError, Damaged, OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            reason = printable(one_line(error), 400)
            console.print(f"note: the model card leaves out what cannot be read: {reason}", markup=False)
    return checked(record, ModelRecord)


def _amounts(rundir: RunDir, step: int) -> dict[str, Any]:
    """What the lines of metrics say of the very update that the parameters are of."""
    lines = [line for line in read_metrics(rundir.metrics) if line["step"] == step]
    merged: dict[str, Any] = {}
    for line in lines:
        merged |= line
    return {ours: float(merged[name]) for name, ours in _AMOUNTS.items() if name in merged}


def _starts(rundir: RunDir, step: int) -> dict[str, Any]:
    """Devices and versions of all starts, and what the first began with."""
    starts = read_starts(rundir)
    if not starts:
        return {}
    began = {"init_from": "the parameters of another run", "branch_from": "the parameters of its trunk"}
    if str(starts[0].get("init_from")).startswith(SCHEME):
        began["init_from"] = "the parameters of a pretrained encoder of transformers"
    reasons = [words for name, words in began.items() if starts[0].get(name)]
    devices = dict.fromkeys(text for start in starts if (text := _devices(start)))
    packages = {name: version for name, version in starts[-1].get("packages", {}).items() if version}
    return {
        "devices": list(devices),
        "packages": packages,
        **({"began_with": reasons[0]} if reasons else {}),
    }


def _devices(start: Mapping[str, Any]) -> str:
    counts = Counter(map(str, start.get("devices", ())))
    return ", ".join(f"{count} x {kind}" for kind, count in counts.items())


def _data(rundir: RunDir, step: int) -> dict[str, Any]:
    manifest = read_manifest(rundir.data)
    names = sources_of(manifest)
    data = {
        "identity": manifest["identity"],
        "sources": list(_without_folders(names[:_MOST])),
        "source_count": max(len(names), manifest.get("origin", {}).get("file_count", 0)),
        "prepared": [_prepared(quote) for quote in manifest.get("prepared_data", ())],
        "files": manifest["files"],
    }
    return {"data": data}


def _prepared(quote: Mapping[str, Any]) -> dict[str, Any]:
    """A data set; where it came from only if that is no path of a machine."""
    known = {name: quote[name] for name in ("name", "licence", "source", "revision") if quote.get(name)}
    if not all("://" in part for part in known.get("source", "").split(", ")):
        known.pop("source", None)
    return known


def _without_folders(names: Iterable[str]) -> Iterable[str]:
    """Names as they are, but of absolute paths the last part alone: a card is for others to read."""
    return (PurePosixPath(name).name if name.startswith(("/", "~")) else name for name in names)
