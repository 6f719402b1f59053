"""The results of a study: one sealed file a finished item, read together as one table.

Many processes write the store at the same time: an item's file is created once, and the first one counts.
Nothing is changed in it afterwards. Tables, figures and sentences are drawn from stores only. A store that is
handed on has its items in one file (`shared_study.py`); what is done later has files beside it.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import math
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from tlc_jax.core.errors import NotFinite, UserError
from tlc_jax.core.schema import Name, NotRequired, Sha256, TypedDict, checked, record
from tlc_jax.storage.paths import AnyPath, create_file, files
from tlc_jax.storage.untrusted import parse_json, read_bytes, read_json

if TYPE_CHECKING:  # slow to import
    import pyarrow

_FOLDER, _SUFFIX, _CHECKSUM = "items", ".json", "sha256"
PACKED = "items.jsonl.gz"
"""All items of a store, one a line."""
_LARGEST = 64 << 20  # bytes of an item
_LARGEST_PACKED = 1 << 30  # bytes of all items of a packed store
_LARGEST_INTEGER = 1 << 63
_REMEDY = "lower the learning rate in a new study"

Row = dict[str, Any]
"""One measurement: `set`, `metric` and `value`, the step and the training seconds at which it was made, and
whatever else belongs to it alone."""


@record
class StageData(TypedDict):
    """The prepared data of a run: the identity of their source and options, and their tokenizer's SHA-256."""

    identity: Sha256
    tokenizer: Sha256


@record
class PackedScores(TypedDict):
    """Scores of the examples of a set and their weights, as base64 of zlib of little-endian float32."""

    scores: str
    weights: str


@record
class Failure(TypedDict):
    """Why an item has no result: a number of `item`, which is itself or one that it needs, is not finite."""

    item: Name
    reason: str


@record
class Result(TypedDict):
    """What is kept of a finished item. `fields` are columns of all of its rows; `data` are those of each
    stage that it rests on; `made` says by which commit, versions and device, and when. One that has `failed`
    has no rows."""

    item: Name
    stage: Name
    fields: dict[str, str | int | float | bool]
    rows: list[Row]
    made: dict[str, Any]
    data: NotRequired[dict[str, StageData]]
    examples: NotRequired[dict[str, PackedScores]]
    failed: NotRequired[Failure]


class ItemStore:
    """The finished items of a study in a folder. UserError names a file that is not what was written."""

    def __init__(self, workdir: AnyPath):
        self.folder = workdir / _FOLDER
        packed = workdir / PACKED
        self._read: dict[str, Result] = _read_packed(packed) if packed.exists() else {}
        self._packed = set(self._read)

    def has(self, name: str) -> bool:
        """Whether an item is finished."""
        return name in self._read or self.path(name).exists()

    def result(self, name: str) -> Result:
        """The result of a finished item; it never changes, so it is read once."""
        if name not in self._read:
            self._read[name] = _read_item(self.path(name), name)
        return self._read[name]

    def finished(self) -> set[str]:
        """The names of all finished items: one listing, where asking for each takes a request in a bucket."""
        names = files(self.folder) if self.folder.exists() else []
        return {*self._packed, *(name.removesuffix(_SUFFIX) for name in names if name.endswith(_SUFFIX))}

    def results(self) -> Iterator[Result]:
        """The results of all finished items, by name."""
        for name in sorted(self.finished()):
            yield self.result(name)

    def seal(self, result: Result) -> bool:
        """Store the result of a finished item; False if another process has stored one before, which counts.
        NotFinite if it holds a number that is not finite."""
        try:
            text = json.dumps(sealed(result), allow_nan=False, indent=1) + "\n"
        except ValueError as error:
            raise NotFinite(_first_not_finite(result), _REMEDY) from error
        return result["item"] not in self._packed and create_file(self.path(result["item"]), text)

    def rows(self, **fields: Any) -> list[Row]:
        """The rows of all finished items, each with the columns of its item, whose columns have these
        values."""
        rows = []
        for result in self.results():
            about = {"item": result["item"], "stage": result["stage"], **result["fields"]}
            device = {"device": result["made"].get("device"), "commit": result["made"].get("commit")}
            rows += [{**about, **row, **device} for row in result["rows"]]
        return [row for row in rows if all(row.get(name) == value for name, value in fields.items())]

    def table(self) -> pyarrow.Table:
        """All rows as one table, with a column for each name that any row has; null where a row lacks it. A
        value that says yes or no is 1 or 0."""
        import pyarrow

        rows = self.rows()
        rows = [_with_number(row) for row in rows]
        names = dict.fromkeys(name for row in rows for name in row)
        return pyarrow.table({name: _column([row.get(name) for row in rows]) for name in names})

    def path(self, name: str) -> AnyPath:
        return self.folder / f"{name}{_SUFFIX}"


def _with_number(row: Row) -> Row:
    return row | {"value": float(row["value"])} if isinstance(row.get("value"), bool) else row


def sealed(result: Result) -> dict[str, Any]:
    """The result with the checksum by which a change of it is noticed."""
    return {**result, _CHECKSUM: _digest(result)}


def pack_scores(
    scores: Float[np.ndarray, "examples"], weights: Float[np.ndarray, "examples"]
) -> PackedScores:
    """NotFinite if a score is not finite."""
    if not np.isfinite(scores).all():
        raise NotFinite("a score of an example is not finite", _REMEDY)
    return {"scores": _packed(scores), "weights": _packed(weights)}


def unpack_scores(
    packed: PackedScores,
) -> tuple[Float[np.ndarray, "examples"], Float[np.ndarray, "examples"]]:
    """(scores, weights) of the examples of a set."""
    return _unpacked(packed["scores"]), _unpacked(packed["weights"])


def _first_not_finite(result: Result) -> str:
    for row in result["rows"]:
        for name, value in row.items():
            if isinstance(value, float) and not math.isfinite(value):
                named = f"{row.get('metric')} on {row.get('set')}" if name == "value" else name
                return f"its {named} is {value}"
    return "it has a number that is not finite"


def _column(values: list[Any]) -> list[Any]:
    """The values of a column in one type: integers where all are, else floats (counts of operations are
    larger than any integer of a table), else text."""
    present = [value for value in values if value is not None]
    if all(isinstance(value, bool) for value in present) or all(isinstance(v, str) for v in present):
        return values
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in present):
        whole = all(isinstance(value, int) and abs(value) < _LARGEST_INTEGER for value in present)
        return values if whole else [value if value is None else float(value) for value in values]
    return [value if value is None else str(value) for value in values]


def _packed(values: np.ndarray) -> str:
    return base64.b64encode(zlib.compress(np.asarray(values, "<f4").tobytes(), 9)).decode("ascii")


def _unpacked(text: str) -> np.ndarray:
    content = zlib.decompressobj().decompress(base64.b64decode(text, validate=True), _LARGEST)
    return np.frombuffer(content, "<f4").astype(np.float64)


def _read_item(path: AnyPath, name: str) -> Result:
    try:
        result = _unsealed(read_json(path, _LARGEST))
        if result["item"] != name:
            raise ValueError(f"it is that of {result['item']}")
    except ValueError as error:
        raise UserError(
            f"{path} is not the result that the study wrote ({error}): restore it, or remove it to have the "
            "item done again"
        ) from error
    return result


def _read_packed(path: AnyPath) -> dict[str, Result]:
    """The items of a packed store by name."""
    results, size = dict[str, Result](), 0
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(read_bytes(path, _LARGEST_PACKED))) as lines:
            while line := lines.readline(_LARGEST + 1):
                size += len(line)
                if len(line) > _LARGEST or size > _LARGEST_PACKED:
                    raise ValueError("it is larger than any store")
                result = _unsealed(parse_json(line.decode()))
                results[result["item"]] = result
    except (ValueError, OSError, EOFError, zlib.error) as error:
        raise UserError(
            f"{path} is not the store that was written, or a damaged one ({error}): restore it"
        ) from error
    return results


def _unsealed(document: object) -> Result:
    """The result of a sealed document; ValueError if it is not what was sealed."""
    if not isinstance(document, dict):
        raise ValueError("it is not a JSON object")
    digest = document.pop(_CHECKSUM, None)
    result = checked(document, Result)
    if digest != _digest(result):
        raise ValueError(f"it was changed: its {_CHECKSUM} does not match its values")
    return result


def _digest(result: Result) -> str:
    return hashlib.sha256(json.dumps(result, sort_keys=True, allow_nan=False).encode()).hexdigest()
