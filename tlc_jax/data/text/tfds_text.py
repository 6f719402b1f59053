"""Running text of a prepared TFDS dataset."""

from __future__ import annotations

from collections.abc import Iterator

from etils import epath

from tlc_jax.config import DataConfig
from tlc_jax.data.lines import check_text
from tlc_jax.data.text.text_source import TextSource
from tlc_jax.data.tfds_source import tfds_examples, tfds_files, tfds_folder, tfds_string


def tfds_text(name: str, config: DataConfig) -> TextSource:
    """A split of a prepared TFDS dataset with a text field."""
    folder = tfds_folder(name, config.dir)
    files = tfds_files(name, folder, config.split)
    size = sum(path.stat().length for path in files.values())
    return TextSource(
        name=f"TFDS {name} {folder.name}, split {config.split}, {size / 1e6:.1f} MB in {folder}",
        origin={"kind": "tfds", "name": name, "version": folder.name, "split": config.split},
        files=files,
        documents=lambda: _documents(config, folder),
    )


def _documents(config: DataConfig, folder: epath.Path) -> Iterator[str]:
    for number, example in enumerate(tfds_examples(folder, config.split)):
        text = tfds_string(example, config.text_field, number, folder)
        check_text(text, f"example {number:,} of {folder}")
        yield text
