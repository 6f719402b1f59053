"""The schema of an artifact's manifest, which is checked before anything else is read."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, NotRequired

import numpy as np
from pydantic import Field

from tlc_jax.artifacts.encoding import leaf_kind
from tlc_jax.artifacts.model_record import ModelRecord
from tlc_jax.core.leaf import is_coded
from tlc_jax.core.schema import Count, Name, Sha256, TypedDict, checked, record
from tlc_jax.storage.paths import AnyPath
from tlc_jax.storage.sealed import MANIFEST, Damaged, Fingerprint, read_manifest

FORMAT = "tlc_jax artifact 1"
# bounds on what compressed streams expand to; a constant tensor would be 30,000 times smaller
_LEAST, _EXPANSION = 128 << 20, 1000

Text = Annotated[str, Field(max_length=10_000)]


@record
class TensorEntry(TypedDict):
    """The keys that every tensor has; each kind of leaf (core/leaf.py) has further ones."""

    layout: Name
    shape: Annotated[list[Count], Field(max_length=32)]
    bits: Annotated[int, Field(ge=1, le=64)]
    weights: Count
    nonzeros: Count
    sha256: Sha256
    relative_error: Annotated[float, Field(ge=0)]
    zstd: NotRequired[bool]
    coding: NotRequired[Literal["brotli"]]
    why: NotRequired[Text]


@record
class Source(TypedDict):
    kind: Literal["run", "folder"]
    step: NotRequired[Count]


@record
class Size(TypedDict):
    weights: Count
    nonzeros: Count
    float32_bytes: Count
    paper_bytes: Annotated[float, Field(ge=0)]
    format_bytes: Count


@record
class Vocabulary(TypedDict):
    """The tokens of a trimmed vocabulary, and of that before."""

    kept: Count
    before: Count


@record
class ArtifactManifest(TypedDict):
    format: Text
    source: Source
    tensors: dict[Name, TensorEntry]
    files: dict[Name, Fingerprint]
    size: Size
    training: NotRequired[ModelRecord]
    vocabulary: NotRequired[Vocabulary]
    texts_per_example: NotRequired[Literal[1, 2]]
    label_names: NotRequired[
        Annotated[list[Annotated[str, Field(max_length=1000)]], Field(max_length=10_000)]
    ]


def artifact_manifest(folder: AnyPath, weights: str) -> dict[str, Any]:
    """The manifest of an artifact whose tensors are in the file `weights`, none of them larger than that file
    can hold. Damaged where it is no such manifest."""
    manifest, path = read_manifest(folder), folder / MANIFEST
    if manifest.get("format") != FORMAT:
        raise Damaged(path, f"is of the format {manifest.get('format')!r}: this program reads {FORMAT!r}")
    try:
        checked(manifest, ArtifactManifest)
        if weights not in manifest["files"]:
            raise ValueError(f"files: there is no {weights}")
        if manifest["source"]["kind"] == "run" and not {"label_names"} <= manifest.keys():
            raise ValueError("label_names: field required")
        if manifest["source"]["kind"] == "run" and "step" not in manifest["source"]:
            raise ValueError("source/step: field required")
        check_tensors(manifest["tensors"], manifest["files"][weights]["bytes"])
    except ValueError as error:
        raise Damaged(path, f"is no manifest of an artifact ({error})") from error
    return manifest


def check_tensors(tensors: dict[str, TensorEntry], present: int) -> None:
    """ValueError where an entry is not what its kind of leaf takes, or where tensors are declared that the
    `present` bytes of their file cannot hold."""
    expanded = 0
    for name, entry in tensors.items():
        if "zstd" in entry and "coding" in entry:
            raise ValueError(f"tensors/{name}: it has a coding and zstd, and its streams are coded once")
        if math.prod(entry["shape"]) != entry["weights"] or entry["nonzeros"] > entry["weights"]:
            raise ValueError(f"tensors/{name}: its shape, its weights and its nonzeros contradict each other")
        try:
            kind = leaf_kind(dict(entry))
            checked(entry, kind.schema)
            streams = kind.streams(dict(entry))
        except ValueError as error:
            raise ValueError(f"tensors/{name}/{error}") from error
        for part, (dtype, size) in () if is_coded(entry) else streams.items():
            if size * np.dtype(dtype).itemsize > present:
                raise ValueError(f"tensors/{name}: {size:,} elements of its {part} are not there")
        expanded += entry["weights"] * (1 if entry["bits"] <= 8 else entry["bits"] // 8)
        if expanded > max(_LEAST, _EXPANSION * present):
            raise ValueError(f"tensors/{name}: {present:,} bytes do not hold {entry['weights']:,} weights")
