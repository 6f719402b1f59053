"""The content of an artifact as a table, and the differences of two models, tensor by tensor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.table import Table

from tlc_jax.artifacts.artifact import WEIGHTS, is_artifact, read_artifact
from tlc_jax.core.errors import UserError
from tlc_jax.core.leaf import to_dense
from tlc_jax.core.printable import first_of
from tlc_jax.core.stacked import Tensors, split
from tlc_jax.runs.load import load_model
from tlc_jax.storage.paths import parse_path

_RANGES = ("granularity", "range", "zero")
_SHOWN = (
    "shape",
    "bits",
    "weights",
    "nonzeros",
    "layout",
    "zstd",
    "relative_error",
    "why",
    "sha256",
    "dtype",
)
"""Keys of a tensor's entry that have columns of their own, or that nobody reads; the others are details."""


def describe(root: str) -> tuple[dict[str, Any], Table]:
    """The manifest of an artifact, after checking every byte of it, and a table of its tensors."""
    path = parse_path(root)
    if not is_artifact(path):
        raise UserError(
            f"{root} is not an artifact: give a folder that python -m tlc_jax.compress has written"
        )
    manifest = read_artifact(path).manifest
    table = Table(title=f"{manifest['format']}, source {manifest['source']['kind']}")
    for heading in ("tensor", "shape", "bits", "details", "zeros", "layout", "relative error", "not done"):
        table.add_column(
            heading, justify="left" if heading in ("tensor", "details", "layout", "not done") else "right"
        )
    for name, entry in manifest["tensors"].items():
        details = (f"{key} {x}" if key not in _RANGES else x for key, x in entry.items() if key not in _SHOWN)
        table.add_row(
            name,
            " x ".join(map(str, entry["shape"])),
            str(entry["bits"]),
            ", ".join(details),
            f"{1 - entry['nonzeros'] / entry['weights']:.1%}" if entry["weights"] else "",
            entry["layout"] + (", zstd" if entry.get("zstd") else ""),
            f"{entry['relative_error']:.4f}",
            entry.get("why", ""),
        )
    size = manifest["size"]
    table.caption = (
        f"{size['weights']:,} weights, {size['nonzeros']:,} of them nonzero; bytes: float32 "
        f"{size['float32_bytes']:,}, paper {size['paper_bytes']:,.0f}, format {size['format_bytes']:,}, file "
        f"{manifest['files'][WEIGHTS]['bytes']:,}"
    )
    return manifest, table


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
