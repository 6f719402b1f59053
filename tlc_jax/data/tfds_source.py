"""Prepared TFDS datasets, read without TensorFlow and never downloaded.

The features.json of a dataset names Python classes, which TFDS imports: whoever writes the file could run
code. So only the few kinds of features that text needs are accepted before TFDS reads it, and only shards in
the folder of the dataset are read.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from etils import epath

from tlc_jax.core import stopping
from tlc_jax.core.errors import UserError, one_line
from tlc_jax.core.invocation import command
from tlc_jax.core.printable import printable
from tlc_jax.storage.paths import local_folder
from tlc_jax.storage.untrusted import is_plain_name, one_reason, read_json

_FEATURES = "tensorflow_datasets.core.features."
# class -> field of features.json with its content
_KINDS = {
    f"{_FEATURES}features_dict.FeaturesDict": "featuresDict",
    f"{_FEATURES}sequence_feature.Sequence": "sequence",
    f"{_FEATURES}text_feature.Text": "text",
    f"{_FEATURES}translation_feature.Translation": "translation",
    f"{_FEATURES}class_label_feature.ClassLabel": "classLabel",
    f"{_FEATURES}tensor_feature.Tensor": "tensor",
    f"{_FEATURES}scalar.Scalar": "tensor",
}
_BESIDE = {"pythonClassName", "description", "valueRange"}
_DEEPEST = 20  # nested features
_AT_ONCE = 256  # examples read at a time: single reads change threads each time


def tfds_files(name: str, folder: epath.Path, split: str) -> dict[str, epath.Path]:
    """The files that a split depends on, by names that do not depend on the location of the data."""
    shards = sorted(path for path in folder.iterdir() if f"-{split}." in path.name and not path.is_dir())
    if not split or not shards:
        raise UserError(
            f"TFDS dataset {name} in {folder} has no split {split!r} (slices are not supported): name another"
        )
    metadata = [path for path in (folder / "dataset_info.json", folder / "features.json") if path.exists()]
    return {f"{name}/{path.name}": path for path in [*metadata, *shards]}


def tfds_folder(name: str, data_dir: str | None) -> epath.Path:
    """The folder of the newest prepared version of a dataset; UserError if there is none."""
    root = epath.Path(data_dir or "~/tensorflow_datasets")
    if "://" not in os.fspath(root):
        root = epath.Path(local_folder(os.fspath(root), "a --data.dir"))
    if not is_plain_name(name):
        raise UserError(
            f"data.name {name!r} is not the name of a TFDS dataset, such as wikipedia/20230601.en"
        )
    versions = [path.parent for path in (root / name).glob("*/dataset_info.json")]
    if not versions:
        raise UserError(
            f"the data set {name} is not prepared under {root} (by prepare, or by TFDS in "
            f"{name}/VERSION/dataset_info.json): {_how_to_get(name)}"
        )
    return max(versions, key=lambda path: [int(part) for part in path.name.split(".") if part.isdigit()])


def _how_to_get(name: str) -> str:
    """What to do without a data set."""
    from tlc_jax.data.preparation.known_data import KNOWN  # needs the readers of all kinds of data

    if name in [data.name for data in KNOWN]:
        return f"get it with {command(f'prepare {name} --out DIR')}, and give --data.dir DIR"
    return "prepare it there or set --data.dir, and give the name without a version; nothing is downloaded"


def tfds_examples(folder: epath.Path, split: str) -> Iterator[dict[str, Any]]:
    """The examples of a split in order, from the folder of a version of a dataset."""
    source = _data_source(folder, split)
    for start in range(0, len(source), _AT_ONCE):
        stopping.check()
        try:
            yield from source.__getitems__(range(start, min(start + _AT_ONCE, len(source))))
        except Exception as error:
            raise UserError(
                f"TFDS dataset {folder} is damaged near example {start}: {one_line(error)}"
            ) from error


def _data_source(folder: epath.Path, split: str) -> Any:
    """The reader of TFDS; UserError if the dataset has features other than text needs."""
    import tensorflow_datasets as tfds

    try:
        info = read_json(_local(folder / "dataset_info.json"))
        if (features := info.get("features")) is not None:
            _check_feature(features, "features", 0)
        _check_feature(read_json(_local(folder / "features.json")), "features", 0)
        # tfds.data_source would download by default, and without a network retry for minutes
        builder: Any = tfds.builder_from_directory(folder)
        for path in builder.info.splits[split].filepaths:
            if path.parent != folder:
                raise ValueError(f"it names the shard {printable(path)} outside its folder")
        return builder.as_data_source(split)
    except Exception as error:
        raise UserError(
            f"TFDS dataset {folder} cannot be read ({one_reason(error)}): prepare it as array_record, with "
            "features of text"
        ) from error


def _local(path: epath.Path) -> Path | epath.Path:
    return path if "://" in os.fspath(path) else Path(path)


def _check_feature(feature: Any, name: str, depth: int) -> None:
    """ValueError for a feature of none of the kinds above, as TFDS writes them since 2022."""
    kind = feature.get("pythonClassName") if isinstance(feature, dict) else None
    content_name = _KINDS.get(kind) if isinstance(kind, str) else None
    if content_name is None or depth > _DEEPEST:
        known = ", ".join(sorted(path.rpartition(".")[2] for path in _KINDS))
        raise ValueError(f"{name} is of the class {printable(kind, 80)}, not of {known}")
    if unknown := feature.keys() - _BESIDE - {content_name}:
        raise ValueError(f"{name} has the field {printable(min(unknown), 80)}")
    content = feature.get(content_name, {})
    if content_name == "sequence":
        _check_feature(content.get("feature"), f"{name}/feature", depth + 1)
    elif content_name == "tensor" and not re.fullmatch(
        r"(u?int|float|bfloat)\d+|bool_?|string|str|object", str(content.get("dtype"))
    ):
        raise ValueError(f"{name} has the dtype {printable(content.get('dtype'), 80)}")
    elif content_name == "featuresDict":
        for key, inner in content.get("features", {}).items():
            if "/" in key or not is_plain_name(key):
                raise ValueError(f"{name} has a feature called {printable(key, 80)}")
            _check_feature(inner, f"{name}/{key}", depth + 1)


def tfds_string(example: dict[str, Any], field: str, number: int, folder: epath.Path) -> str:
    """A text field of an example; UserError if it is not text."""
    text = example.get(field)
    if isinstance(text, bytes):
        try:
            text = text.decode()
        except UnicodeDecodeError as error:
            raise UserError(f"example {number} of {folder}: {field!r} is not in UTF-8: {error}") from error
    if not isinstance(text, str):
        raise UserError(
            f"example {number} of {folder} has no text in {field!r}: set --data.text-field to one of "
            f"{', '.join(example)}, or prepare the dataset again if it is damaged"
        )
    return text
