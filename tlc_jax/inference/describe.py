"""The content of an artifact, summed up or tensor by tensor, and the differences of two models."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.console import Group
from rich.table import Table

from tlc_jax.artifacts.artifact import WEIGHTS, is_artifact, read_artifact
from tlc_jax.artifacts.encoding import entropy_bytes
from tlc_jax.core.errors import UserError
from tlc_jax.core.invocation import command
from tlc_jax.core.leaf import coding_of, is_coded, to_dense
from tlc_jax.core.printable import counted, first_of
from tlc_jax.core.stacked import Tensors, split
from tlc_jax.runs.load import load_model
from tlc_jax.storage.paths import parse_path

_NUMBER = re.compile(r"(?<=[/.])\d+(?=[/.])")  # of a layer, in the name of a tensor
_VECTORS = "vectors (biases, normalization)"
_RANGES = ("granularity", "range", "zero")
_SHOWN = (
    "shape",
    "bits",
    "weights",
    "nonzeros",
    "layout",
    "zstd",
    "coding",
    "relative_error",
    "why",
    "sha256",
    "dtype",
)
"""Keys of a tensor's entry that have columns of their own, or that nobody reads; the others are details."""


def described(root: str) -> dict[str, Any]:
    """The manifest of an artifact, after checking every byte of it, and its `entropy_bytes`: what its tensors
    would take if each code took as many bits as its frequency allows."""
    path = parse_path(root)
    if not is_artifact(path):
        raise UserError(f"{root} is not an artifact: give a folder that {command('compress')} has written")
    artifact = read_artifact(path)
    return {**artifact.manifest, "entropy_bytes": sum(map(entropy_bytes, artifact.tensors.values()))}


def tensor_table(manifest: Mapping[str, Any]) -> Group:
    """A table of every tensor of an artifact. Numbers in its last column stand for the lines above it: how
    tensors are stored, and what was not done to them."""
    remarks = {entry: number for number, entry in enumerate(_counted_remarks(manifest), start=1)}
    table = _table("tensor", ("shape", "bits", "zeros", "error", "as"))
    for name, entry in manifest["tensors"].items():
        numbers = " ".join(str(remarks[text]) for text in _remarks(entry))
        error = f"{entry['relative_error']:.4f}"
        table.add_row(name, _shape(entry), str(entry["bits"]), _zeros([entry]), error, numbers)
    lines = [f"{remarks[text]}  {line}" for text, line in _counted_remarks(manifest).items()]
    note = "The column error holds the relative error of each tensor, the column as the numbers above."
    return Group(_title(manifest), *lines, table, _sizes(manifest), note)


def summary(manifest: Mapping[str, Any]) -> Group:
    """A table of the kinds of matrices of an artifact, such as `encoder/layers/*/attention/query/kernel`, of
    which each layer has one; vectors are one kind. Below it: how the tensors are stored, and what was not
    done to them."""
    kinds: dict[str, list[dict[str, Any]]] = {}
    for name, entry in manifest["tensors"].items():
        kind = _NUMBER.sub("*", name) if len(entry["shape"]) > 1 else _VECTORS
        kinds.setdefault(kind, []).append(entry)
    kinds |= {_VECTORS: kinds.pop(_VECTORS)} if _VECTORS in kinds else {}  # at the end
    table = _table("kind", ("count", "shape", "bits", "zeros", "error"))
    for kind, entries in kinds.items():
        shapes, bits = {_shape(entry) for entry in entries}, {entry["bits"] for entry in entries}
        table.add_row(
            kind,
            str(len(entries)),
            *(shapes if len(shapes) == 1 else ["several"]),
            "-".join(map(str, sorted({min(bits), max(bits)}))),
            _zeros(entries),
            f"{max(entry['relative_error'] for entry in entries):.4f}",
        )
    lines = _counted_remarks(manifest).values()
    note = "The column error holds the largest relative error of each kind; --all shows every tensor."
    return Group(_title(manifest), table, *lines, _sizes(manifest), note)


def _table(first: str, others: Sequence[str]) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column(first, overflow="fold")
    for heading in others:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _counted_remarks(manifest: Mapping[str, Any]) -> dict[str, str]:
    """What is to be said of tensors, and the line that says of how many; the most frequent first."""
    counts = Counter(text for entry in manifest["tensors"].values() for text in _remarks(entry))
    return {text: f"{counted(count, 'tensor')}: {text}" for text, count in counts.most_common()}


def _remarks(entry: Mapping[str, Any]) -> list[str]:
    """How a tensor is stored and, if there is any, what was not done to it."""
    coding = f", {coding_of(entry)}" if is_coded(entry) else ""
    stored = f"{entry['layout']}{coding}, {_details(entry) or 'not quantized'}"
    return [stored, *([entry["why"]] if entry.get("why") else [])]


def _title(manifest: Mapping[str, Any]) -> str:
    title = f"{manifest['format']}, source {manifest['source']['kind']}"
    if (vocabulary := manifest.get("vocabulary")) is None:
        return title
    return f"{title}; vocabulary trimmed to {vocabulary['kept']:,} of {vocabulary['before']:,} tokens"


def _sizes(manifest: Mapping[str, Any]) -> str:
    size = manifest["size"]
    return (
        f"{size['weights']:,} weights, {size['nonzeros']:,} of them nonzero; bytes: float32 "
        f"{size['float32_bytes']:,}, paper {size['paper_bytes']:,.0f}, format {size['format_bytes']:,}, "
        f"entropy {manifest['entropy_bytes']:,.0f}, file {manifest['files'][WEIGHTS]['bytes']:,}"
    )


def _shape(entry: Mapping[str, Any]) -> str:
    return " x ".join(map(str, entry["shape"]))


def _details(entry: Mapping[str, Any]) -> str:
    """How the codes of a tensor are made, and what else its kind of leaf says."""
    values = {key: x for key, x in entry.items() if key not in _SHOWN}
    return ", ".join(x if key in _RANGES else f"{key} {x}" for key, x in values.items())


def _zeros(entries: list[dict[str, Any]]) -> str:
    """The share of zeros among the weights of some tensors; '' if they have none."""
    weights, nonzeros = (sum(entry[key] for entry in entries) for key in ("weights", "nonzeros"))
    return f"{1 - nonzeros / weights:.1%}" if weights else ""


@dataclass(frozen=True)
class TensorDifference:
    """How two tensors of one name differ: ||first - second|| / ||first||, the largest difference of two
    weights, and the share of the weights zero in either tensor that are zero in both (None without zeros)."""

    name: str
    relative: float
    largest: float
    common_zeros: float | None


def tensor_differences(first: str, second: str) -> list[TensorDifference]:
    """Differences of two models with the same tensors, each a run or an artifact, the largest first."""
    before, after = (_tensors(root) for root in (first, second))
    if unmatched := before.keys() ^ after.keys():
        raise UserError(
            f"only one of {first} and {second} has {first_of(sorted(unmatched))}: give two models with the "
            "same tensors"
        )
    changes = [_difference(name, np.asarray(before[name]), np.asarray(after[name])) for name in before]
    return sorted(changes, key=lambda difference: -difference.relative)


def differences_table(changes: list[TensorDifference]) -> Table:
    """A table of the tensors that differ; the rest are counted in its caption."""
    table = Table()
    for heading in ("tensor", "relative difference", "largest", "common zeros"):
        table.add_column(heading, justify="left" if heading == "tensor" else "right")
    different = [difference for difference in changes if difference.largest != 0]  # NaN is a difference
    for difference in different:
        zeros = "" if difference.common_zeros is None else f"{difference.common_zeros:.1%}"
        table.add_row(difference.name, f"{difference.relative:.6f}", f"{difference.largest:.3g}", zeros)
    table.caption = f"{len(different)} of {len(changes)} tensors differ"
    return table


def _tensors(root: str) -> Tensors:
    if is_artifact(parse_path(root)):  # of any model
        return to_dense(read_artifact(parse_path(root)).tensors)
    return split(load_model(root, warn=lambda text: None).params)


def _difference(name: str, first: np.ndarray, second: np.ndarray) -> TensorDifference:
    if first.shape != second.shape:
        raise UserError(
            f"{name} has the shape {first.shape} in the first model and {second.shape} in the second: give "
            "two models of the same shapes"
        )
    change = first.astype(np.float64) - second
    norm, zeros = float(np.linalg.norm(first)), ((first == 0), (second == 0))
    either = int((zeros[0] | zeros[1]).sum())
    distance = float(np.linalg.norm(change))
    return TensorDifference(
        name,
        distance / norm if norm else distance,
        float(np.abs(change).max(initial=0.0)),
        int((zeros[0] & zeros[1]).sum()) / either if either else None,
    )
