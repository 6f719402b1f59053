"""What is in an artifact, in a table; and in what two models differ, tensor by tensor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.table import Table

from tlc_jax.artifacts.artifact import WEIGHTS, is_artifact, read_artifact
from tlc_jax.compression.quantize import dequantize
from tlc_jax.core.errors import UserError
from tlc_jax.core.stacked import Tensors, split
from tlc_jax.runs.restore import trained_model
from tlc_jax.storage.paths import parse_path


def describe(root: str) -> tuple[dict[str, Any], Table]:
    """The manifest of an artifact, every byte of which was checked, and a table of its tensors."""
    place = parse_path(root)
    if not is_artifact(place):
        raise UserError(f"{root} is no artifact: name a folder that tlc_jax.compress has written")
    manifest = read_artifact(place).manifest
    table = Table(title=f"{manifest['format']}, source {manifest['source']['kind']}")
    for heading in ("tensor", "shape", "bits", "ranges", "zeros", "layout", "relative error", "left alone"):
        table.add_column(
            heading, justify="left" if heading in ("tensor", "ranges", "layout", "left alone") else "right"
        )
    for name, entry in manifest["tensors"].items():
        ranges = ", ".join(entry[key] for key in ("granularity", "range", "zero") if key in entry)
        table.add_row(
            name,
            " x ".join(map(str, entry["shape"])),
            str(entry["bits"]),
            ranges,
            f"{1 - entry['nonzeros'] / entry['weights']:.1%}" if entry["weights"] else "",
            entry["layout"] + (", zstd" if entry.get("zstd") else ""),
            f"{entry['relative_error']:.4f}",
            entry.get("why", ""),
        )
    size = manifest["size"]
    table.caption = (
        f"{size['weights']:,} weights, {size['nonzeros']:,} of them not zero; bytes: float32 "
        f"{size['float32_bytes']:,}, paper {size['paper_bytes']:,.0f}, format {size['format_bytes']:,}, file "
        f"{manifest['files'][WEIGHTS]['bytes']:,}"
    )
    return manifest, table


@dataclass(frozen=True)
class TensorDifference:
    """Of two tensors of one name: ||one - other|| / ||one||, the largest difference of two weights, and which
    share of the weights that are zero in either is zero in both (None where nothing is)."""

    name: str
    relative: float
    largest: float
    common_zeros: float | None


def differences(one: str, other: str) -> list[TensorDifference]:
    """Of two models with the same tensors, each a run or an artifact; the largest relative one first."""
    first, second = (_tensors(root) for root in (one, other))
    if alone := first.keys() ^ second.keys():
        raise UserError(f"only one of {one} and {other} has {', '.join(sorted(alone)[:5])}")
    found = [_difference(name, np.asarray(first[name]), np.asarray(second[name])) for name in first]
    return sorted(found, key=lambda own: -own.relative)


def differences_table(found: list[TensorDifference]) -> Table:
    """The tensors that differ; the others are counted."""
    table = Table()
    for heading in ("tensor", "relative difference", "largest", "common zeros"):
        table.add_column(heading, justify="left" if heading == "tensor" else "right")
    different = [own for own in found if own.largest != 0]  # NaN is a difference
    for own in different:
        zeros = "" if own.common_zeros is None else f"{own.common_zeros:.1%}"
        table.add_row(own.name, f"{own.relative:.6f}", f"{own.largest:.3g}", zeros)
    table.caption = f"{len(different)} of {len(found)} tensors differ"
    return table


def _tensors(root: str) -> Tensors:
    if is_artifact(parse_path(root)):  # of any model
        return dequantize(read_artifact(parse_path(root)).tensors)
    return split(trained_model(root, lambda text: None).params)


def _difference(name: str, one: np.ndarray, other: np.ndarray) -> TensorDifference:
    if one.shape != other.shape:
        raise UserError(f"{name} has the shape {one.shape} in one model and {other.shape} in the other")
    change = one.astype(np.float64) - other
    norm, zeros = float(np.linalg.norm(one)), ((one == 0), (other == 0))
    either = int((zeros[0] | zeros[1]).sum())
    distance = float(np.linalg.norm(change))
    return TensorDifference(
        name,
        distance / norm if norm else distance,
        float(np.abs(change).max(initial=0.0)),
        int((zeros[0] & zeros[1]).sum()) / either if either else None,
    )
