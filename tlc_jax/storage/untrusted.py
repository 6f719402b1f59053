"""Files that somebody else may have written: only regular files, of a bounded size, below the folder that
names them (docs/security.md).

A digest beside a file proves that nothing happened to it on the way, not who made it. So nothing is believed
that a folder says of itself before it was compared with what is there.
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
from tlc_jax.storage.paths import AnyPath

DOCUMENT = 32 << 20  # bytes of a configuration, a manifest, a tokenizer: many times the largest that is known
_BLOCK = 1 << 20
_LONGEST_NAME = 1024
# of JSON, one of whose two bytes may take hundreds; the merges of the largest tokenizers are 600,000 lists
_MOST_VALUES, _MOST_CONTAINERS, _DEEPEST = 4_000_000, 1_000_000, 64
_OPEN = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY  # a FIFO would be waited for


def open_regular(path: AnyPath) -> BinaryIO:
    """A binary file object of a regular file. OSError for anything else, at once."""
    if not isinstance(path, Path):
        return path.open("rb")  # type: ignore[return-value]
    descriptor = os.open(path, _OPEN)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    return os.fdopen(descriptor, "rb")


def size_of(path: AnyPath) -> int:
    """Bytes of a regular file; OSError for anything else."""
    with open_regular(path) as file:
        return file.seek(0, os.SEEK_END)


def read_bytes(path: AnyPath, most: int = DOCUMENT) -> bytes:
    """A whole small file. OSError if it is larger, or no regular file."""
    content = bytearray()
    with open_regular(path) as file:
        while block := file.read(_BLOCK):  # as it comes: what a file says of its size may be another's word
            content += block
            if len(content) > most:
                reason = f"it is larger than the {most:,} bytes that such a file may have"
                raise OSError(errno.EFBIG, reason, str(path))
    return bytes(content)


def read_text(path: AnyPath, most: int = DOCUMENT) -> str:
    """A whole small file in UTF-8; ValueError if it is in another encoding."""
    return read_bytes(path, most).decode("utf-8")


def read_json(path: AnyPath, most: int = DOCUMENT) -> Any:
    """The value of a small JSON file; ValueError if it is none, or nested too deeply to be one of ours."""
    return parse_json(read_text(path, most))


def parse_json(text: str) -> Any:
    """ValueError where the text is no JSON, or has more values or levels than any document here; NaN and
    infinities are none."""
    containers = text.count("[") + text.count("{")  # those in strings too, of which no document has many
    if containers > _MOST_CONTAINERS or containers + text.count(",") > _MOST_VALUES:
        raise ValueError("it holds more values than such a document may have")

    def no_number(name: str) -> NoReturn:
        raise ValueError(f"{name} is no number of JSON")

    try:
        value = json.loads(text, parse_constant=no_number)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if re.search(r"\\u[dD][89a-fA-F]", text):  # half a pair of surrogates cannot be written again
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
    """Whether a relative path stays below its folder, on any system, and can be printed."""
    return (
        0 < len(name) <= _LONGEST_NAME
        and not re.search(r'[\\:*?"<>|]', name)
        and name == printable(name, _LONGEST_NAME)
        and all(part not in ("", ".", "..") and len(part.encode()) < 256 for part in name.split("/"))
    )


def file_inside(folder: AnyPath, name: str) -> AnyPath:
    """The regular file `name` below `folder`. OSError where it leads outside, is missing or something else.

    A link may lead to another file of the folder; in a Hugging Face cache also to the repository's `blobs/`,
    where that cache keeps what `snapshots/REVISION/` links to.
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
    """What an error says of a file, without the file's name where the sentence around it has it already."""
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return printable(" ".join(reason.split()), 300)
