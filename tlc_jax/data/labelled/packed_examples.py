"""Encoded labelled examples on disk (example_packing.py), opened and checked."""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np
from jaxtyping import Integer, UInt8
from pydantic import Field, StringConstraints

from tlc_jax.core.printable import printable
from tlc_jax.core.schema import Count, Name, NotRequired, Sha256, TypedDict, record
from tlc_jax.core.vocabulary import PAD, Roles
from tlc_jax.data import manifests
from tlc_jax.data.cache import Prepared
from tlc_jax.data.labelled.labelled_source import ACCURACY, NO_LABEL, TRAIN, TUNING
from tlc_jax.data.recorded_roles import RecordedRoles, check_roles, roles_in

FORMAT = 4
_Label = Annotated[str, StringConstraints(max_length=1000)]


@record
class ExamplesManifest(TypedDict):
    """What is relied on of a manifest, whoever wrote it."""

    format: Count
    identity: Sha256
    source: manifests.Text
    sequence_length: manifests.Size
    vocab_size: manifests.Size
    label_names: Annotated[list[_Label], Field(min_length=2, max_length=100_000)]
    metric: NotRequired[Name]
    reported: manifests.SetNames
    unlabelled: NotRequired[manifests.SetNames]
    texts_per_example: NotRequired[Literal[1, 2]]
    examples: dict[str, Count]
    truncated: dict[str, Count]
    baselines: dict[str, dict[str, float]]
    contradicting: NotRequired[dict[str, Count]]
    trained_on: NotRequired[dict[str, Count]]
    notes: NotRequired[list[manifests.Text]]
    roles: NotRequired[RecordedRoles]


@dataclass(frozen=True)
class EncodedExamples:
    """One set: example i is ids[offsets[i]:offsets[i + 1]], of class labels[i] or NO_LABEL. `types` are the
    token types of the ids; None: all are 0."""

    ids: Integer[np.ndarray, "tokens"]
    offsets: Integer[np.ndarray, "examples_1"]
    labels: Integer[np.ndarray, "examples"]
    types: UInt8[np.ndarray, "tokens"] | None = None
    pad: int = PAD

    @property
    def lengths(self) -> Integer[np.ndarray, "examples"]:
        return np.diff(self.offsets)


@dataclass(frozen=True)
class PackedExamples(Prepared):
    """Encoded sets on disk: `train` and `tuning` if there is something to train on, the reported sets, and
    those without labels."""

    schema: ClassVar[type] = ExamplesManifest
    formats: ClassVar[range] = range(FORMAT + 1)

    @functools.cached_property
    def roles(self) -> Roles:
        return roles_in(self.manifest)

    @property
    def trains(self) -> bool:
        return TRAIN in self.manifest["examples"] and TRAIN not in (*self.reported, *self.unlabelled)

    @property
    def reported(self) -> tuple[str, ...]:
        return tuple(self.manifest["reported"])

    @property
    def unlabelled(self) -> tuple[str, ...]:
        return tuple(self.manifest.get("unlabelled", ()))

    @property
    def metric(self) -> str:
        """The name of the primary metric; data prepared before there was a choice have none: accuracy."""
        return self.manifest.get("metric", ACCURACY)

    def split(self, name: str) -> EncodedExamples:
        size, files = self.manifest["examples"][name], self.manifest["files"]
        with manifests.naming(self.folder):
            ids, types = manifests.open_array(self.folder, f"{name}.ids.npy", manifests.IDS), None
            if types_file(name) in files:
                types = manifests.open_array(self.folder, types_file(name), ("uint8",), len(ids))
            return EncodedExamples(
                self.ids(ids),
                manifests.open_array(self.folder, f"{name}.offsets.npy", ("int64",), size + 1),
                manifests.open_array(self.folder, f"{name}.labels.npy", ("int32",), size),
                types,
                self.roles.pad,
            )

    def stored_ids(self, name: str) -> tuple[Integer[np.ndarray, "tokens"], ...]:
        return (dataclasses.replace(self, vocabulary=None).split(name).ids,)

    def baseline(self, kind: str, name: str) -> Integer[np.ndarray, "examples"] | None:
        """The classes that the 'majority' or the 'linear' baseline predicts for a set that is not trained on;
        None if there is no training set."""
        if not self.trains:
            return None
        with manifests.naming(self.folder):
            size = self.manifest["examples"][name]
            classes = manifests.open_array(self.folder, f"{name}.{kind}.npy", ("int32",), size)
            _check_classes(name, classes, 0, len(self.manifest["label_names"]))
            return classes

    def check(self) -> None:
        manifest = self.manifest
        manifests.check_set_names(manifest, "examples")
        check_roles(manifest)
        names = manifest["label_names"]
        if len(set(names)) < len(names) or any(name != printable(name, 1000) for name in names):
            raise ValueError("label_names: they must be printable and differ")
        sets = {*self.reported, *self.unlabelled} | ({TRAIN, TUNING} if self.trains else set())
        if sets != set(manifest["examples"]):
            raise ValueError(f"examples: its sets are {sorted(manifest['examples'])}, not {sorted(sets)}")
        for name in sets:
            split = self.split(name)
            least, end = (NO_LABEL, 0) if name in self.unlabelled else (0, len(names))
            _check_classes(name, split.labels, least, end)
            manifests.check_ids(
                name, split.ids, split.offsets, manifest["vocab_size"], manifest["sequence_length"]
            )
            if split.types is not None and len(split.types) and split.types.max() > 1:
                raise ValueError(f"{types_file(name)}: it has other token types than 0 and 1")


def types_file(name: str) -> str:
    """The file of a set's token types."""
    return f"{name}.types.npy"


def _check_classes(name: str, labels: Integer[np.ndarray, "examples"], least: int, end: int) -> None:
    if len(labels) and not least <= labels.min() <= labels.max() < end:
        raise ValueError(f"{name}: its labels are not from {least} to {end - 1}")
