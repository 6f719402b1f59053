"""Prepared TFDS datasets, read without TensorFlow and never downloaded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from etils import epath

from tlc_jax.config import DataConfig
from tlc_jax.core.errors import UserError
from tlc_jax.data.sources import Source


def tfds_text(name: str, config: DataConfig) -> Source:
    """A split of a prepared TFDS dataset with a text field."""
    folder = tfds_folder(name, config.dir)
    files = tfds_files(name, folder, config.split)
    size = sum(path.stat().length for path in files.values())
    return Source(
        name=f"TFDS {name} {folder.name}, split {config.split}, {size / 1e6:.1f} MB in {folder}",
        origin={"kind": "tfds", "name": name, "version": folder.name, "split": config.split},
        files=files,
        documents=lambda: _documents(config, folder),
    )


def tfds_files(name: str, folder: epath.Path, split: str) -> dict[str, epath.Path]:
    """The files that a split depends on, by names that do not depend on where the data lies."""
    shards = sorted(path for path in folder.iterdir() if f"-{split}." in path.name and not path.is_dir())
    if not shards:
        raise UserError(
            f"TFDS dataset {name} in {folder} has no split {split!r} (slices are not read): name another"
        )
    return {f"{name}/{path.name}": path for path in [folder / "dataset_info.json", *shards]}


def tfds_folder(name: str, data_dir: str | None) -> epath.Path:
    """Where the newest version of a dataset is prepared; UserError if it is not."""
    root = epath.Path(data_dir or "~/tensorflow_datasets").expanduser()
    if not name:
        raise UserError("data.name names a dataset of TFDS with no letters: correct it")
    found = [path.parent for path in (root / name).glob("*/dataset_info.json")]
    if not found:
        raise UserError(
            f"TFDS dataset {name} is not prepared under {root} (no {name}/VERSION/dataset_info.json): "
            "prepare it there or set --data.dir, and name no version; nothing is downloaded"
        )
    return max(found, key=lambda path: [int(part) for part in path.name.split(".") if part.isdigit()])


def tfds_examples(folder: epath.Path, split: str) -> Iterator[dict[str, Any]]:
    """The examples of a split, in order, of the folder with a version of a dataset."""
    import tensorflow_datasets as tfds

    # tfds.data_source would by default download, and retry for minutes where there is no network
    builder: Any = tfds.builder_from_directory(folder)
    source: Any = builder.as_data_source(split)
    for start in range(0, len(source), 256):  # single reads pay a thread hop each
        try:
            yield from source.__getitems__(range(start, min(start + 256, len(source))))
        except Exception as error:
            raise UserError(f"TFDS dataset {folder} is damaged near example {start}: {error}") from error


def tfds_string(example: dict[str, Any], field: str, number: int, folder: epath.Path) -> str:
    """A text field of an example; UserError if it holds none."""
    text = example.get(field)
    if not isinstance(text, (str, bytes)):
        raise UserError(
            f"example {number} of {folder} has no text in {field!r}: the shard is damaged, or set "
            f"--data.text-field to one of {', '.join(example)}"
        )
    return text.decode() if isinstance(text, bytes) else text


def _documents(config: DataConfig, folder: epath.Path) -> Iterator[str]:
    for number, example in enumerate(tfds_examples(folder, config.split)):
        yield tfds_string(example, config.text_field, number, folder)
