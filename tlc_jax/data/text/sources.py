"""The list of sources of running text, and the choice of one by `data.name`."""

from __future__ import annotations

from collections.abc import Callable

from tlc_jax.config import DataConfig
from tlc_jax.data.text.documents import text_files
from tlc_jax.data.text.installed_docs import installed_docs
from tlc_jax.data.text.text_source import TextSource
from tlc_jax.data.text.tfds_text import tfds_text

SOURCES: dict[str, Callable[[DataConfig], TextSource]] = {
    "files": lambda config: text_files(config.dir, config.text_field),
    "docs": lambda config: installed_docs(),
}
"""By `data.name`; any other name is that of a TFDS dataset, or of several joined by '+'."""


def open_source(config: DataConfig) -> TextSource:
    """The source that `config` names. Reads no text yet; raises UserError if it does not exist."""
    if config.name in SOURCES:
        return SOURCES[config.name](config)
    parts = [tfds_text(name, config) for name in config.name.split("+")]
    return parts[0] if len(parts) == 1 else _joined(parts)


def _joined(parts: list[TextSource]) -> TextSource:
    return TextSource(
        name=" + ".join(part.name for part in parts),
        origin={"parts": [part.origin for part in parts]},
        files={name: path for part in parts for name, path in part.files.items()},
        documents=lambda: (document for part in parts for document in part.documents()),
        notes=tuple(note for part in parts for note in part.notes),
    )
