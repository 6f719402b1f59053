"""Finds the user's own text files: which files of a folder are read, in which order, and which are left out.

Links are followed, each file is read once. Files that are left out are counted and reported by name, since
nobody would miss them otherwise.
"""

from __future__ import annotations

import fnmatch
import glob
import os
import stat
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tlc_jax.core import stopping
from tlc_jax.core.errors import UserError
from tlc_jax.core.printable import first_of
from tlc_jax.data.location import check_exists, status_of
from tlc_jax.data.provenance import manifest_of
from tlc_jax.storage.paths import local_folder
from tlc_jax.storage.sealed import MANIFEST

TEXT_SUFFIXES = (".txt", ".txt.gz", ".txt.zst", ".jsonl", ".jsonl.gz", ".jsonl.zst", ".parquet")
_KINDS = ", ".join(TEXT_SUFFIXES)
_NAMED = 3  # names printed of the files left out for one reason
_KEPT = 20  # names of them in a manifest
_SYSTEM_FOLDERS = ("__MACOSX",)

OTHER = "of another kind"
HIDDEN = "hidden, as editors and systems leave them"
AGAIN = "under another name of what is read"
BROKEN = "linked to what is not there"
EMPTY = "empty"
FOLDERS = "a folder"


@dataclass
class TextFiles:
    """Paths by names that do not depend on the location of the data, in the order of the names; the links to
    folders that were followed; the names of what is left out, by reason."""

    files: dict[str, Path] = field(default_factory=dict)
    links: list[str] = field(default_factory=list)
    left_out: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def notes(self) -> list[str]:
        """What to report beside the number of files, as parts of a sentence."""
        notes = [f"through links to folders: {first_of(self.links, _NAMED)}"] if self.links else []
        if self.left_out:
            left_out = self.left_out.items()
            reasons = (f"{len(names):,} {why} ({first_of(names, _NAMED)})" for why, names in left_out)
            notes.append(f"left out: {', '.join(reasons)}")
        return notes

    def record(self) -> dict[str, Any]:
        """The same as fields of a manifest, which must stay small."""
        names = list(self.files)
        return {
            "files": names[:1000],
            "file_count": len(names),
            "links": self.links[:_KEPT],
            "left_out": {
                reason: {"count": len(names), "names": names[:_KEPT]}
                for reason, names in self.left_out.items()
            },
        }


def find_text_files(pattern: str) -> TextFiles:
    """The text files that `data.dir` names: one file, a folder (searched recursively) or a glob. Reads no
    text; UserError if there is no such file, or if one that looks like text cannot be read."""
    check_exists(pattern)
    path = local_folder(pattern, "a --data.dir")
    try:
        status = status_of(path)
    except PermissionError:
        if not glob.has_magic(pattern):  # a glob names the folder itself
            raise
        status = None
    if status is None:
        result = _matches(path)
    elif stat.S_ISDIR(status.st_mode):
        result = _below(path)
    else:
        if not is_text(path.name):
            raise UserError(f"data.dir names {pattern}, which is none of {_KINDS}: convert or rename it")
        _check_regular(path, status)
        result = TextFiles({path.name: path})
    if not result.files:
        nothing = f"data.dir names {pattern}, which has no file of {_KINDS}"
        raise UserError("; ".join([nothing, *result.notes()]))
    return result


def is_text(name: str) -> bool:
    """Whether a file with this name is read."""
    return name.lower().endswith(TEXT_SUFFIXES)


def _below(root: Path) -> TextFiles:
    """All files below a folder, in the order of their paths. Each folder and each file is taken once, by its
    device and inode, so that circles of links end."""
    result = TextFiles()
    seen: set[tuple[int, int]] = set()
    waiting = [(root, "", False)]  # a stack: deep folders need no deep recursion
    while waiting:
        path, name, hidden = waiting.pop()
        stopping.check()
        status = status_of(path)
        if status is None or not stat.S_ISDIR(status.st_mode):
            _take(result, seen, path, name, status, hidden)
        elif (hidden and path.is_symlink()) or _is_seen(seen, status):
            if not hidden:
                result.left_out[AGAIN].append(f"{name}/")
        else:
            if name and path.is_symlink():
                result.links.append(name)
            for inner in sorted(path.iterdir(), reverse=True):
                below = f"{name}/{inner.name}" if name else inner.name
                waiting.append((inner, below, hidden or is_hidden(inner.name)))
    return result


def _matches(pattern: Path) -> TextFiles:
    """All files that a glob matches. A hidden file that the glob names is wanted."""
    result = TextFiles()
    seen: set[tuple[int, int]] = set()
    start, parts = (Path(pattern.anchor), pattern.parts[1:]) if pattern.anchor else (Path(), pattern.parts)
    paths = sorted(set(_expanded(start, parts)))
    names = [path.name for path in paths if is_text(path.name)]
    short = len(set(names)) == len(names)
    for path in paths:
        status = status_of(path)
        if status is not None and stat.S_ISDIR(status.st_mode):
            result.left_out[FOLDERS].append(f"{path.name}/")
        else:
            _take(result, seen, path, path.name if short else str(path), status, False)
    return result


def _expanded(folder: Path, parts: Sequence[str]) -> Iterator[Path]:
    """The paths below a folder that match the parts of a glob. Python's own glob says nothing of folders that
    it may not read, and follows links in circles."""
    stopping.check()
    part, rest = parts[0], parts[1:]
    if part == "**":
        yield from (inner for inside in _folders(folder) for inner in _expanded(inside, rest or ("*",)))
    elif not glob.has_magic(part):
        path = folder / part
        if rest and path.is_dir():
            yield from _expanded(path, rest)
        elif not rest and os.path.lexists(path):
            yield path
    else:
        for path in folder.iterdir():
            if not fnmatch.fnmatchcase(path.name, part) or (is_hidden(path.name) and part[0] != "."):
                continue
            if not rest:
                yield path
            elif path.is_dir():
                yield from _expanded(path, rest)


def _folders(root: Path) -> Iterator[Path]:
    """A folder and all folders below it that are not hidden, each once."""
    seen: set[tuple[int, int]] = set()
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        stopping.check()
        if not _is_seen(seen, folder.stat()):
            yield folder
            waiting += [path for path in folder.iterdir() if not is_hidden(path.name) and path.is_dir()]


def _take(
    result: TextFiles,
    seen: set[tuple[int, int]],
    path: Path,
    name: str,
    status: os.stat_result | None,
    hidden: bool,
) -> None:
    """Add one file to those that are read or to those that are left out; UserError if it should be read but
    cannot."""
    if not is_text(name):
        if not hidden and not (path.name == MANIFEST and manifest_of(path.parent)):
            result.left_out[OTHER if status else BROKEN].append(name)
    elif hidden:
        result.left_out[HIDDEN].append(name)
    elif status is None:
        what = f"is a link to {path.readlink()}, which" if path.is_symlink() else "existed a moment ago, and"
        raise UserError(f"{path} {what} does not exist: put the text back, or remove the name")
    else:
        _check_regular(path, status)
        if _is_seen(seen, status):
            result.left_out[AGAIN].append(name)
        elif not status.st_size and not name.lower().endswith((".gz", ".zst")):
            result.left_out[EMPTY].append(name)
        else:
            result.files[name] = path


def _is_seen(seen: set[tuple[int, int]], status: os.stat_result) -> bool:
    """Whether the same folder or file was seen before; remember it."""
    identity = (status.st_dev, status.st_ino)
    before = identity in seen
    seen.add(identity)
    return before


def _check_regular(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise UserError(
            f"{path} is a pipe or a device, and text is read more than once: write it to a regular file"
        )


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is one that editors and systems leave."""
    return name.startswith(".") or name in _SYSTEM_FOLDERS
