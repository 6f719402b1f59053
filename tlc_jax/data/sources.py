"""Where documents come from: the user's files, a TFDS dataset, or the documentation installed here.

A source knows the files that its content depends on, so its identity is known without reading text,
and it yields documents: strings whose lines are sentences or paragraphs, in a fixed order.
"""

from __future__ import annotations

import glob
import hashlib
import io
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from etils import epath

from tlc_jax.config import DataConfig
from tlc_jax.core.errors import UserError
from tlc_jax.core.sealed import sha256

TEXT_SUFFIXES = (".txt", ".txt.gz", ".txt.zst", ".jsonl")


@dataclass(frozen=True)
class Source:
    """A named body of text that can be read more than once.

    `files` maps a name that does not depend on where the data lies to the path it is read from.
    """

    description: str
    origin: dict[str, Any]
    files: dict[str, epath.Path]
    documents: Callable[[], Iterator[str]]

    def identity(self) -> str:
        return identity_of(self.files)


def identity_of(files: dict[str, epath.Path]) -> str:
    """SHA-256 over the names and bytes of all files: equal text has an equal identity anywhere."""
    with ThreadPoolExecutor() as pool:
        digests = pool.map(sha256, files.values())
    lines = [f"{name} {digest}\n" for name, digest in zip(files, digests, strict=True)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def hash64(text: str, seed: int = 0) -> int:
    """64 bits of BLAKE2 keyed by `seed`: what chooses documents and examples, the same on any machine."""
    key = seed.to_bytes(8, "little")
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8, key=key).digest(), "little")


def open_source(config: DataConfig) -> Source:
    """The source that `config` names. Reads no text yet; raises UserError if it is not there."""
    if config.name == "docs":
        from tlc_jax.data.installed_docs import installed_docs

        return installed_docs()
    if config.name == "files":
        return text_files(config.dir, config.text_field)
    from tlc_jax.data.tfds_source import tfds_text

    parts = [tfds_text(name, config) for name in config.name.split("+")]
    return parts[0] if len(parts) == 1 else _joined(parts)


def _joined(parts: list[Source]) -> Source:
    return Source(
        description=" + ".join(part.description for part in parts),
        origin={"parts": [part.origin for part in parts]},
        files={name: path for part in parts for name, path in part.files.items()},
        documents=lambda: (document for part in parts for document in part.documents()),
    )


# --- the user's files ------------------------------------------------------------------------------


def text_files(where: str | None, text_field: str) -> Source:
    """Documents of `.txt[.gz|.zst]` and `.jsonl` files: one file, a folder (searched whole) or a glob."""
    if where is None:
        raise UserError(
            "data.dir is not set: give --data.dir a file, a folder or a glob of text, or --data.name "
            "docs for the documentation installed here"
        )
    paths = _find(where)
    root = Path(where) if Path(where).is_dir() else None
    names = [str(path.relative_to(root)) if root else path.name for path in paths]
    if len(set(names)) < len(names):
        names = [str(path) for path in paths]

    def documents() -> Iterator[str]:
        for path in paths:
            reader = _jsonl_documents if path.name.endswith(".jsonl") else _txt_documents
            yield from reader(path, text_field)

    size = sum(path.stat().st_size for path in paths)
    return Source(
        description=f"{len(paths)} text files ({size / 1e6:.1f} MB) under {where}",
        origin={"kind": "files", "text_field": text_field, "files": names},
        files={name: epath.Path(path) for name, path in zip(names, paths, strict=True)},
        documents=documents,
    )


def _find(where: str) -> list[Path]:
    kinds = ", ".join(TEXT_SUFFIXES)
    path = Path(where).expanduser()
    if path.is_file():
        if not path.name.endswith(TEXT_SUFFIXES):
            raise UserError(f"data.dir names {where}, which is none of {kinds}: convert or rename it")
        return [path]
    if path.is_dir():
        found = (p for p in path.rglob("*") if p.is_file())
    elif glob.has_magic(where):
        found = (Path(p) for p in glob.glob(str(path), recursive=True) if Path(p).is_file())  # noqa: PTH207
    else:
        raise UserError(f"data.dir names {where}, which does not exist: give a file, a folder or a glob")
    paths = sorted(p for p in found if p.name.endswith(TEXT_SUFFIXES))
    if not paths:
        raise UserError(f"data.dir names {where}, where there is no file of {kinds}")
    return paths


def read_lines(path: Path) -> Iterator[str]:
    """Lines without their ends; a truncated or damaged archive is an error, never a short text."""
    import pyarrow

    compression = {".gz": "gzip", ".zst": "zstd"}.get(path.suffix)
    if compression and not path.stat().st_size:
        raise UserError(f"{path} has no bytes, not even those of an empty archive: replace the file")
    number = 0
    try:
        with pyarrow.input_stream(str(path), compression=compression) as stream:
            for line in io.TextIOWrapper(stream, encoding="utf-8", newline="\n"):
                number += 1
                yield line.rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read after line {number}: {error}; replace the file") from error


def _txt_documents(path: Path, _: str) -> Iterator[str]:
    lines: list[str] = []
    for line in read_lines(path):
        if line.strip():
            lines.append(line)
        elif lines:
            yield "\n".join(lines)
            lines = []
    if lines:
        yield "\n".join(lines)


def _jsonl_documents(path: Path, text_field: str) -> Iterator[str]:
    for number, line in enumerate(read_lines(path), start=1):
        if not line.strip():
            continue
        try:
            text = json.loads(line)[text_field]
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{path} line {number} is not a JSON object with a field {text_field!r} "
                f"({type(error).__name__}: {error}): correct it or set --data.text-field"
            ) from error
        if not isinstance(text, str) or not _encodes(text):
            raise UserError(f"{path} line {number}: {text_field!r} is not a string of Unicode: correct it")
        yield text


def _encodes(text: str) -> bool:
    """False for a lone half of a surrogate pair, which JSON can spell and UTF-8 cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
