"""What can be wrong with a folder of files: bytes flipped, fields removed, types and numbers changed, files
that are something else. Everything follows from a seed."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
from pathlib import Path
from typing import Any

from tests.forging import forge

_NUMBERS = (0, -1, 1, 2, 7, 255, 10**4, 2**31, 2**40, 2**63, 10**30, 0.5, -0.0, 1e308, 1e-320, float("nan"))
_STRINGS = (
    "",
    "..",
    "../../x",
    "/etc/hostname",
    "a" * 100_000,
    "\x1b[31m\x07",
    "O",
    "<f8",
    "\ud800",
    "true",
    "%s",
    "nul\0",
)
_OTHERS = (None, True, [], {}, [[]], [1, "2", None], {"a": {"b": 1}}, "7")


def mutate(folder: Path, seed: int) -> str:
    """Changes one thing of a folder, or a few. Returns in words what it was. What is sealed is often signed
    again."""
    rng = random.Random(seed)
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "lock")
    path = rng.choice([*paths, *(one for one in paths if one.suffix == ".json")])  # documents twice as often
    sealed = rng.random() < 0.7
    kinds = [_bytes, _file] if rng.random() < 0.3 else [_content]
    what = rng.choice(kinds)(path, rng)
    if sealed:
        for manifest in folder.rglob("manifest.json"):
            if manifest.is_symlink() or not manifest.is_file():
                continue
            with contextlib.suppress(Exception):  # it may be what was changed
                forge(manifest.parent, lambda m: None)
    return f"{path.relative_to(folder)}: {what}{', signed again' if sealed else ''}"


def _bytes(path: Path, rng: random.Random) -> str:
    content = bytearray(path.read_bytes())
    kind = rng.choice(("flip", "truncate", "insert", "zero", "double"))
    at = rng.randrange(len(content) + 1)
    if kind == "flip" and content:
        for _ in range(rng.choice((1, 1, 8, 64))):
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    elif kind == "truncate":
        del content[at:]
    elif kind == "insert":
        content[at:at] = rng.randbytes(rng.choice((1, 10, 1000)))
    elif kind == "zero":
        content[at : at + 100] = bytes(len(content[at : at + 100]))
    else:
        content += bytes(content)
    path.unlink()  # files may be hard links into a cache
    path.write_bytes(content)
    return f"{kind} at {at}"


def _file(path: Path, rng: random.Random) -> str:
    kind = rng.choice(("removed", "folder", "fifo", "link to a device", "link out", "empty", "unreadable"))
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "link to a device":
        path.symlink_to("/dev/zero")
    elif kind == "link out":
        path.symlink_to("/etc/hostname")
    elif kind in ("empty", "unreadable"):
        path.touch(mode=0 if kind == "unreadable" else 0o644)
    return kind


def _content(path: Path, rng: random.Random) -> str:
    """What the file says, as far as its kind is known."""
    content = path.read_bytes()
    path.unlink()
    try:
        if path.suffix == ".safetensors":
            new, what = _header(content, rng)
        elif path.suffix in (".tsv", ".jsonl", ".txt"):
            new, what = _lines(content, rng)
        else:
            new, what = _document(content, rng)
    except ValueError:  # no JSON
        path.write_bytes(content)
        return _bytes(path, rng)
    path.write_bytes(new)
    return what


def _document(content: bytes, rng: random.Random) -> tuple[bytes, str]:
    value = json.loads(content)
    what = "; ".join(_field(value, rng) for _ in range(rng.choice((1, 1, 1, 3))))
    return json.dumps(value).encode(), what


def _header(content: bytes, rng: random.Random) -> tuple[bytes, str]:
    size = int.from_bytes(content[:8], "little")
    header, what = _document(content[8 : 8 + size], rng)
    declared = rng.choice((len(header), len(header), len(header), 2**40, 3))
    return declared.to_bytes(8, "little") + header + content[8 + size :], f"header: {what}"


def _lines(content: bytes, rng: random.Random) -> tuple[bytes, str]:
    lines = content.split(b"\n")
    kind = rng.choice(
        ("cell", "tab", "drop", "repeat", "quote", "bom", "bytes", "long", "swap", "header", "crlf")
    )
    at = rng.randrange(len(lines))
    cells = lines[at].split(b"\t")
    cell = rng.randrange(len(cells))
    if kind == "cell":
        cells[cell] = rng.choice((b"", b" ", b"NaN", b"null", b"1e999", b"\xff\xfe", "\u2028".encode(), b'"'))
        lines[at] = b"\t".join(cells)
    elif kind == "tab":
        lines[at] = lines[at][: len(lines[at]) // 2] + b"\t" + lines[at][len(lines[at]) // 2 :]
    elif kind == "drop":
        lines[at] = b"\t".join(cells[:cell])
    elif kind == "repeat":
        lines[at:at] = [lines[at]] * rng.choice((1, 1000))
    elif kind == "quote":
        lines[at] = b'"' + lines[at]
    elif kind == "bom":
        lines[0] = b"\xef\xbb\xbf" + lines[0]
    elif kind == "bytes":
        lines[at] = rng.randbytes(50)
    elif kind == "long":
        lines[at] = lines[at] + b"x" * rng.choice((10**4, 10**6))
    elif kind == "swap":
        lines[at] = b"\t".join(reversed(cells))
    elif kind == "header":
        lines[0] = rng.choice((lines[0].upper(), b"a\tb", b"", b"label\ttext", b"text\ttext", b"en\tfr\tde"))
    else:
        lines = [b"\r\n".join(lines)]
    return b"\n".join(lines), f"{kind} in line {at + 1}"


def _field(value: Any, rng: random.Random) -> str:
    """Changes one field somewhere inside a JSON value."""
    node, name = value, "the whole"
    while isinstance(node, dict | list) and node:
        key = rng.choice(sorted(node)) if isinstance(node, dict) else rng.randrange(len(node))
        inner, name = node[key], f"{name}/{str(key)[:40]}"
        if isinstance(inner, dict | list) and inner and rng.random() < 0.85:
            node = inner
            continue
        kind = rng.choice(("remove", "type", "number", "string", "rename", "repeat"))
        if kind == "remove":
            del node[key]
        elif kind == "rename" and isinstance(node, dict):
            node[rng.choice(_STRINGS)] = node.pop(key)
        elif kind == "repeat" and isinstance(inner, list):
            node[key] = inner * rng.choice((2, 1000))
        elif kind == "number":
            number = isinstance(inner, int | float) and not isinstance(inner, bool)
            node[key] = inner + rng.choice((-1, 1)) if number and rng.random() < 0.5 else rng.choice(_NUMBERS)
        elif kind == "string":
            node[key] = rng.choice(_STRINGS)
        else:
            node[key] = rng.choice(_OTHERS)
        return f"{kind} {name}"
    return "nothing"


def copy(source: Path, target: Path) -> Path:
    """A folder without its lock, every file its own."""
    return shutil.copytree(source, target, ignore=shutil.ignore_patterns("lock"))
