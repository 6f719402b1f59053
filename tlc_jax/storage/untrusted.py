"""Read files that another party may have written: only regular files, of bounded size, below the folder
that lists them (docs/security.md).

A digest beside a file proves that the file arrived intact, not who wrote it. Nothing that a folder says
about itself is used before it is compared with the files.
"""

from __future__ import annotations

import errno
import json
import os
import re
import stat
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from tlc_jax.core.printable import printable
from tlc_jax.storage.paths import AnyPath, open_flags

DOCUMENT = 32 << 20  # bytes of a configuration, manifest or tokenizer: many times the largest known one
_BLOCK = 1 << 20
_LONGEST_NAME = 1024
# limits of JSON, of which two bytes may become hundreds in memory; the merges of the largest tokenizers are
# 600,000 lists
_MOST_VALUES, _MOST_CONTAINERS, _DEEPEST = 4_000_000, 1_000_000, 64
_OPEN = open_flags("O_RDONLY", "O_CLOEXEC", "O_NONBLOCK", "O_NOCTTY", "O_BINARY")  # a FIFO would block


def open_regular(path: AnyPath) -> BinaryIO:
    """Open a regular file for reading. OSError for anything else, without blocking."""
    if not isinstance(path, Path):
        return path.open("rb")  # type: ignore[return-value]
    descriptor = os.open(path, _OPEN)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    return os.fdopen(descriptor, "rb")


def size_of(path: AnyPath) -> int:
    """Size of a regular file in bytes; OSError for anything else."""
    with open_regular(path) as file:
        return file.seek(0, os.SEEK_END)


def read_bytes(path: AnyPath, most: int = DOCUMENT) -> bytes:
    """The content of a file of at most `most` bytes. OSError if it is larger, or not a regular file."""
    content = bytearray()
    with open_regular(path) as file:
        while block := file.read(_BLOCK):  # in blocks: the reported size may be wrong
            content += block
            if len(content) > most:
                reason = f"it is larger than the {most:,} bytes that such a file may have"
                raise OSError(errno.EFBIG, reason, str(path))
    return bytes(content)


def read_text(path: AnyPath, most: int = DOCUMENT) -> str:
    """The text of a small UTF-8 file; ValueError for another encoding."""
    return read_bytes(path, most).decode("utf-8")


def read_json(path: AnyPath, most: int = DOCUMENT) -> Any:
    """The value of a small JSON file; ValueError as from `parse_json`."""
    return parse_json(read_text(path, most))


def parse_json(text: str) -> Any:
    """The value of a JSON text. ValueError if it is not JSON (NaN and infinities are not), or has more
    values or levels than any document of this project."""
    containers = text.count("[") + text.count("{")  # a few more: brackets in strings count too
    if containers > _MOST_CONTAINERS or containers + text.count(",") > _MOST_VALUES:
        raise ValueError("it holds more values than such a document may have")

    def no_number(name: str) -> NoReturn:
        raise ValueError(f"{name} is no number of JSON")

    try:
        value = json.loads(text, parse_constant=no_number)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if re.search(r"\\u[dD][89a-fA-F]", text):  # a lone surrogate cannot be encoded again
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    level = _containers([value])
    for _ in range(_DEEPEST):
        level = [inner for outer in level for inner in _containers(outer)]
        if not level:
            return value
    raise ValueError(f"it is nested too deeply: more than {_DEEPEST} levels")


def _containers(outer: list[Any] | dict[str, Any]) -> list[Any]:
    values = outer.values() if isinstance(outer, dict) else outer
    return [value for value in values if isinstance(value, dict | list)]


def is_plain_name(name: str) -> bool:
    """Whether a relative path stays below its folder on every operating system, and is printable."""
    return (
        0 < len(name) <= _LONGEST_NAME
        and not re.search(r'[\\:*?"<>|]', name)
        and name == printable(name, _LONGEST_NAME)
        and all(part not in ("", ".", "..") and len(part.encode()) < 256 for part in name.split("/"))
    )


def file_inside(folder: AnyPath, name: str) -> AnyPath:
    """The regular file `name` below `folder`. OSError if it is outside, missing, or not a regular file.

    A link may point to another file of the folder and, in a Hugging Face cache, to the repository's
    `blobs/`, to which `snapshots/REVISION/` links.
    """
    if not is_plain_name(name):
        raise OSError(errno.EINVAL, "the name does not stay inside the folder that lists it", printable(name))
    path = folder / name
    if isinstance(path, Path) and isinstance(folder, Path):
        real, root = path.resolve(), folder.resolve()
        roots = [root, root.parent.parent / "blobs"] if root.parent.name == "snapshots" else [root]
        if not any(real.is_relative_to(each) for each in roots):
            raise OSError(errno.EINVAL, "it is a link that leads outside its folder", str(path))
        if not stat.S_ISREG(path.stat().st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    return path


def one_reason(error: BaseException) -> str:
    """The message of an error about a file, without the name of the file."""
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return printable(" ".join(reason.split()), 300)
