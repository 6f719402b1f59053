"""Prepared TFDS datasets, read without TensorFlow and never downloaded.

A dataset's features.json names Python classes, which TFDS imports: whoever writes it could run code. So it is
compared with the few kinds of features that text needs before TFDS sees it, and only shards of the dataset's
own folder are read.
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
from tlc_jax.core.printable import printable
from tlc_jax.storage.paths import local_folder
from tlc_jax.storage.untrusted import is_plain_name, one_reason, read_json

_FEATURES = "tensorflow_datasets.core.features."
# class -> where its content stands in features.json
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
_DEEPEST = 20  # features in features
_AT_ONCE = 256  # examples: single reads pay a thread hop each


def tfds_files(name: str, folder: epath.Path, split: str) -> dict[str, epath.Path]:
    """The files that a split depends on, by names that do not depend on where the data lies."""
    shards = sorted(path for path in folder.iterdir() if f"-{split}." in path.name and not path.is_dir())
    if not split or not shards:
        raise UserError(
            f"TFDS dataset {name} in {folder} has no split {split!r} (slices are not read): name another"
        )
    about = [path for path in (folder / "dataset_info.json", folder / "features.json") if path.exists()]
    return {f"{name}/{path.name}": path for path in [*about, *shards]}


def tfds_folder(name: str, data_dir: str | None) -> epath.Path:
    """Where the newest version of a dataset is prepared; UserError if it is not."""
    root = epath.Path(data_dir or "~/tensorflow_datasets")
    if "://" not in os.fspath(root):
        root = epath.Path(local_folder(os.fspath(root), "a --data.dir"))
    if not is_plain_name(name):
        raise UserError(f"data.name {name!r} is no name of a TFDS dataset, such as wikipedia/20230601.en")
    found = [path.parent for path in (root / name).glob("*/dataset_info.json")]
    if not found:
        raise UserError(
            f"TFDS dataset {name} is not prepared under {root} (no {name}/VERSION/dataset_info.json): "
            "prepare it there or set --data.dir, and name no version; nothing is downloaded"
        )
    return max(found, key=lambda path: [int(part) for part in path.name.split(".") if part.isdigit()])


def tfds_examples(folder: epath.Path, split: str) -> Iterator[dict[str, Any]]:
    """The examples of a split, in order, of the folder with a version of a dataset."""
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
    """TFDS's own reader of the examples; UserError where the dataset is none that holds text."""
    import tensorflow_datasets as tfds

    try:
        info = read_json(_local(folder / "dataset_info.json"))
        if (features := info.get("features")) is not None:
            _check_feature(features, "features", 0)
        _check_feature(read_json(_local(folder / "features.json")), "features", 0)
        # tfds.data_source would by default download, and retry for minutes where there is no network
        builder: Any = tfds.builder_from_directory(folder)
        for path in builder.info.splits[split].filepaths:
            if path.parent != folder:
                raise ValueError(f"it names the shard {printable(path)} outside of its folder")
        return builder.as_data_source(split)
    except Exception as error:
        raise UserError(
            f"TFDS dataset {folder} cannot be read: {one_reason(error)}; prepare it as array_record, of text"
        ) from error


def _local(path: epath.Path) -> Path | epath.Path:
    return path if "://" in os.fspath(path) else Path(path)


def _check_feature(feature: Any, where: str, depth: int) -> None:
    """ValueError for a feature that is none of the kinds above, as TFDS writes them since 2022."""
    kind = feature.get("pythonClassName") if isinstance(feature, dict) else None
    content_name = _KINDS.get(kind) if isinstance(kind, str) else None
    if content_name is None or depth > _DEEPEST:
        known = ", ".join(sorted(name.rpartition(".")[2] for name in _KINDS))
        raise ValueError(f"{where} is of the class {printable(kind, 80)}, not of {known}")
    if unknown := feature.keys() - _BESIDE - {content_name}:
        raise ValueError(f"{where} has the field {printable(min(unknown), 80)}")
    content = feature.get(content_name, {})
    if content_name == "sequence":
        _check_feature(content.get("feature"), f"{where}/feature", depth + 1)
    elif content_name == "tensor" and not re.fullmatch(
        r"(u?int|float|bfloat)\d+|bool_?|string|str|object", str(content.get("dtype"))
    ):
        raise ValueError(f"{where} has the dtype {printable(content.get('dtype'), 80)}")
    elif content_name == "featuresDict":
        for name, inner in content.get("features", {}).items():
            if "/" in name or not is_plain_name(name):
                raise ValueError(f"{where} has a feature of the name {printable(name, 80)}")
            _check_feature(inner, f"{where}/{name}", depth + 1)


def tfds_string(example: dict[str, Any], field: str, number: int, folder: epath.Path) -> str:
    """A text field of an example; UserError if it holds none."""
    text = example.get(field)
    if isinstance(text, bytes):
        try:
            text = text.decode()
        except UnicodeDecodeError as error:
            raise UserError(f"example {number} of {folder}: {field!r} is not in UTF-8: {error}") from error
    if not isinstance(text, str):
        raise UserError(
            f"example {number} of {folder} has no text in {field!r}: the shard is damaged, or set "
            f"--data.text-field to one of {', '.join(example)}"
        )
    return text
