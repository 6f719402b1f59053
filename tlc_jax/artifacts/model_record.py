"""What is recorded of a model's training: for its card, and in the manifest of an artifact, which has no run
beside it. All but the number of updates may be unknown, and is left out then."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from tlc_jax.core.schema import Count, Name, NotRequired, Sha256, TypedDict, record
from tlc_jax.storage.sealed import Fingerprint

Amount = Annotated[float, Field(ge=0)]
_Short = Annotated[str, StringConstraints(max_length=1024)]
_Many = Field(max_length=10_000)


@record
class MetricRecord(TypedDict):
    """The primary metric of a task on the set that choices were made on. `interval` has 95 % over its
    examples; `no_interval` says why there is none. `before` is the value of the model before compression."""

    name: Name
    set: Name
    value: float
    examples: Count
    before: NotRequired[float]
    interval: NotRequired[Annotated[list[float], Field(min_length=2, max_length=2)]]
    no_interval: NotRequired[_Short]


@record
class PreparedRecord(TypedDict):
    """A data set that `prepare` wrote (data/provenance.py)."""

    name: Name
    licence: Name
    source: NotRequired[_Short | None]
    revision: NotRequired[_Short | None]


@record
class DataRecord(TypedDict):
    """The data that a model was trained on: what they were made from, and the files of the run."""

    identity: Sha256
    sources: Annotated[list[_Short], _Many]
    source_count: Count
    prepared: Annotated[list[PreparedRecord], _Many]
    files: Annotated[dict[Name, Fingerprint], _Many]


@record
class ModelRecord(TypedDict):
    """`began_with` says what a run began with that did not begin with new parameters; amounts are those of
    the run alone, and `recovery_...` those of the rounds of pruning after it."""

    updates: Count
    seed: NotRequired[Count]
    training_seconds: NotRequired[Amount]
    tokens: NotRequired[Amount]
    epochs: NotRequired[Amount]
    flops: NotRequired[Amount]
    recovery_updates: NotRequired[Count]
    recovery_seconds: NotRequired[Amount]
    began_with: NotRequired[_Short]
    devices: NotRequired[Annotated[list[_Short], _Many]]
    packages: NotRequired[Annotated[dict[Name, _Short], _Many]]
    data: NotRequired[DataRecord]
    metric: NotRequired[MetricRecord]
