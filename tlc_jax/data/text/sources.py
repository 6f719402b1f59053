"""Where documents come from: the user's files, a TFDS dataset, or the documentation installed here.

A source knows the files that its content depends on, so its identity is known without reading text,
and it yields documents: strings whose lines are sentences or paragraphs, in a fixed order.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from etils import epath

from tlc_jax.config import DataConfig
from tlc_jax.core import stopping
from tlc_jax.core.errors import UserError, one_line
from tlc_jax.data.lines import read_lines
from tlc_jax.data.text.text_files import find_text_files
from tlc_jax.storage.untrusted import open_regular

LONGEST_TEXT = 1 << 23  # characters of a line that is tokenised
LONGEST_DOCUMENT = 1 << 28  # characters of a document
_BLOCK = 1 << 22


@dataclass(frozen=True)
class Source:
    """A named body of text that can be read more than once.

    `files` maps a name that does not depend on where the data lies to the path it is read from; `notes` say
    what is left out.
    """

    name: str
    origin: dict[str, Any]
    files: dict[str, epath.Path]
    documents: Callable[[], Iterator[str]]
    notes: tuple[str, ...] = ()

    @property
    def description(self) -> str:
        return "; ".join([self.name, *self.notes])

    def identity(self) -> str:
        return identity_of(self.files)

    def stamp(self) -> list[tuple[int, int]]:
        """Sizes and times of the files: others after a while mean that somebody wrote there meanwhile."""
        statuses = [os.stat(path) for path in self.files.values() if "://" not in os.fspath(path)]  # noqa: PTH116
        return [(status.st_size, status.st_mtime_ns) for status in statuses]


def identity_of(files: dict[str, epath.Path]) -> str:
    """SHA-256 over the names and bytes of all files: equal text has an equal identity anywhere."""
    with ThreadPoolExecutor() as pool:
        digests = pool.map(_sha256, files.values())
    lines = [f"{name} {digest}\n" for name, digest in zip(files, digests, strict=True)]
    return hashlib.sha256("".join(lines).encode(errors="surrogateescape")).hexdigest()


def _sha256(path: epath.Path) -> str:
    """Of a file that may be large: signals are obeyed."""
    digest = hashlib.sha256()
    with open_regular(path if "://" in os.fspath(path) else Path(path)) as file:
        while block := file.read(_BLOCK):
            stopping.check()
            digest.update(block)
    return digest.hexdigest()


def hash64(text: str, seed: int = 0) -> int:
    """64 bits of BLAKE2 keyed by `seed`: what chooses documents and examples, the same on any machine."""
    key = seed.to_bytes(8, "little")
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8, key=key).digest(), "little")


def open_source(config: DataConfig) -> Source:
    """The source that `config` names. Reads no text yet; raises UserError if it is not there."""
    if config.name == "docs":
        from tlc_jax.data.text.installed_docs import installed_docs

        return installed_docs()
    if config.name == "files":
        return text_files(config.dir, config.text_field)
    from tlc_jax.data.tfds_source import tfds_text

    parts = [tfds_text(name, config) for name in config.name.split("+")]
    return parts[0] if len(parts) == 1 else _joined(parts)


def _joined(parts: list[Source]) -> Source:
    return Source(
        name=" + ".join(part.name for part in parts),
        origin={"parts": [part.origin for part in parts]},
        files={name: path for part in parts for name, path in part.files.items()},
        documents=lambda: (document for part in parts for document in part.documents()),
        notes=tuple(note for part in parts for note in part.notes),
    )


# --- the user's files ------------------------------------------------------------------------------


def text_files(where: str | None, text_field: str) -> Source:
    """Documents of text files: of one file, a folder (searched whole) or a glob."""
    if where is None:
        raise UserError(
            "data.dir is not set: give --data.dir a file, a folder or a glob of text, or --data.name "
            "docs for the documentation installed here"
        )
    found = find_text_files(where)

    def documents() -> Iterator[str]:
        for path in found.files.values():
            if ".jsonl" in path.name.lower():
                yield from _jsonl_documents(path, text_field)
            else:
                yield from _txt_documents(path)

    size = sum(path.stat().st_size for path in found.files.values())
    return Source(
        name=f"{len(found.files):,} text files ({size / 1e6:.1f} MB) under {where}",
        origin={"kind": "files", "text_field": text_field, **found.record()},
        files={name: epath.Path(path) for name, path in found.files.items()},
        documents=documents,
        notes=tuple(found.notes()),
    )


def _txt_documents(path: Path) -> Iterator[str]:
    """What stands between blank lines."""
    lines: list[str] = []
    size = first = 0
    for number, line in enumerate(read_lines(path, any_end=True), start=1):
        if line.strip():
            first = first if lines else number
            size += len(line)
            lines.append(line)
            check_text(line, f"{path} line {number:,}")
            if size > LONGEST_DOCUMENT:
                raise UserError(
                    f"{path} has no blank line in {size:,} characters from line {first:,} on: separate its "
                    "documents by blank lines"
                )
        elif lines:
            yield "\n".join(lines)
            lines, size = [], 0
    if lines:
        yield "\n".join(lines)


def _jsonl_documents(path: Path, text_field: str) -> Iterator[str]:
    for number, line in enumerate(read_lines(path), start=1):
        if not line.strip():
            continue
        try:
            text = json.loads(line)[text_field]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise UserError(
                f"{path} line {number:,} is not a JSON object with a field {text_field!r} "
                f"({type(error).__name__}: {one_line(error)}): correct it or set --data.text-field"
            ) from error
        if not isinstance(text, str) or not _encodes(text):
            raise UserError(f"{path} line {number:,}: {text_field!r} is not a string of Unicode: correct it")
        check_text(text, f"{path} line {number:,}")
        yield text


def check_text(text: str, where: str) -> None:
    """UserError if the text has a line of more than `LONGEST_TEXT` characters, which would take gigabytes to
    be tokenised."""
    if len(text) > LONGEST_TEXT and (longest := max(map(len, text.split("\n")))) > LONGEST_TEXT:
        raise UserError(
            f"{where} has {longest:,} characters without a line break, {LONGEST_TEXT:,} are the most: break "
            "the text into paragraphs"
        )


def _encodes(text: str) -> bool:
    """False for a lone half of a surrogate pair, which JSON can spell and UTF-8 cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
