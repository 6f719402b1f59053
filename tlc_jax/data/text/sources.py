"""The list of sources of running text, and the choice of one by `data.name`."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from etils import epath

from tlc_jax.config import DataConfig
from tlc_jax.data.lines import check_text
from tlc_jax.data.text.documents import text_files
from tlc_jax.data.text.installed_docs import installed_docs
from tlc_jax.data.text.text_source import TextSource
from tlc_jax.data.tfds_source import tfds_examples, tfds_files, tfds_folder, tfds_string

SOURCES: dict[str, Callable[[DataConfig], TextSource]] = {
    "files": lambda config: text_files(config.dir, config.text_field),
    "docs": lambda config: installed_docs(),
}
"""By `data.name`; any other name is that of a TFDS dataset, or of several joined by '+'."""


def open_source(config: DataConfig) -> TextSource:
    """The source that `config` names. Reads no text yet; raises UserError if it does not exist."""
    if config.name in SOURCES:
        return SOURCES[config.name](config)
    parts = [_tfds_text(name, config) for name in config.name.split("+")]
    return parts[0] if len(parts) == 1 else _joined(parts)


def _joined(parts: list[TextSource]) -> TextSource:
    return TextSource(
        name=" + ".join(part.name for part in parts),
        origin={"parts": [part.origin for part in parts]},
        files={name: path for part in parts for name, path in part.files.items()},
        documents=lambda: (document for part in parts for document in part.documents()),
        notes=tuple(note for part in parts for note in part.notes),
    )


def _tfds_text(name: str, config: DataConfig) -> TextSource:
    """A split of a prepared TFDS dataset with a text field."""
    folder = tfds_folder(name, config.dir)
    files = tfds_files(name, folder, config.split)
    size = sum(path.stat().length for path in files.values())
    return TextSource(
        name=f"TFDS {name} {folder.name}, split {config.split}, {size / 1e6:.1f} MB in {folder}",
        origin={"kind": "tfds", "name": name, "version": folder.name, "split": config.split},
        files=files,
        documents=lambda: _tfds_documents(config, folder),
    )


def _tfds_documents(config: DataConfig, folder: epath.Path) -> Iterator[str]:
    for number, example in enumerate(tfds_examples(folder, config.split)):
        text = tfds_string(example, config.text_field, number, folder)
        check_text(text, f"example {number:,} of {folder}")
        yield text
