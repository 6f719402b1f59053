"""The user's own text: which files below a folder are read, in which order, and what is left out of it.

Links are followed, each file is read once. What is left out is counted and told by name: nobody would
miss it otherwise.
"""

from __future__ import annotations

import errno
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
from tlc_jax.core.printable import printable
from tlc_jax.storage.paths import local_folder

TEXT_SUFFIXES = (".txt", ".txt.gz", ".txt.zst", ".jsonl", ".jsonl.gz", ".jsonl.zst")
_KINDS = ", ".join(TEXT_SUFFIXES)
_NAMED = 3  # of those that are left out for one reason, on the screen
_KEPT = 20  # in a manifest
_SYSTEM_FOLDERS = ("__MACOSX",)

OTHER = "of another kind"
HIDDEN = "hidden, as editors and systems leave them"
AGAIN = "under another name of what is read"
BROKEN = "linked to what is not there"
EMPTY = "empty"
FOLDERS = "a folder"


@dataclass
class TextFiles:
    """Paths by names that do not depend on where the data lies, in the order of the names; which links to
    folders were followed; the names of what is left out, by reason."""

    files: dict[str, Path] = field(default_factory=dict)
    links: list[str] = field(default_factory=list)
    left_out: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def notes(self) -> list[str]:
        """What a reader of the data should know beside the number of files, as parts of a sentence."""
        notes = [f"through links to folders: {_some(self.links)}"] if self.links else []
        if self.left_out:
            reasons = [f"{len(names):,} {why} ({_some(names)})" for why, names in self.left_out.items()]
            notes.append(f"left out: {', '.join(reasons)}")
        return notes

    def record(self) -> dict[str, Any]:
        """The same for a manifest, which must stay small."""
        names = list(self.files)
        return {
            "files": names[:1000],
            "file_count": len(names),
            "links": self.links[:_KEPT],
            "left_out": {
                why: {"count": len(names), "names": names[:_KEPT]} for why, names in self.left_out.items()
            },
        }


def find_text_files(where: str) -> TextFiles:
    """The files of one file, a folder (searched whole) or a glob. Reads no text; raises UserError where
    there is none, or where one that looks like text cannot be read."""
    path = local_folder(where, "a --data.dir")
    if not where.strip():
        raise UserError("data.dir is empty: give a file, a folder or a glob")
    try:
        status = _status(path)
    except PermissionError:
        if not glob.has_magic(where):  # a glob names the folder itself
            raise
        status = None
    if status is None and not glob.has_magic(where):
        link = f", a link to {path.readlink()}" if path.is_symlink() else ""
        raise UserError(
            f"data.dir names {where}{link}, which does not exist: give a file, a folder or a glob"
        )
    if status is None:
        found = _matches(path)
    elif stat.S_ISDIR(status.st_mode):
        found = _below(path)
    else:
        if not is_text(path.name):
            raise UserError(f"data.dir names {where}, which is none of {_KINDS}: convert or rename it")
        _check_regular(path, status)
        found = TextFiles({path.name: path})
    if not found.files:
        nothing = f"data.dir names {where}, where there is no file of {_KINDS}"
        raise UserError("; ".join([nothing, *found.notes()]))
    return found


def is_text(name: str) -> bool:
    """Whether a file of this name is read."""
    return name.lower().endswith(TEXT_SUFFIXES)


def _below(root: Path) -> TextFiles:
    """All files below a folder, in the order of their paths. Every folder and every file is taken once, by
    its device and number, so that no circle of links is endless."""
    found = TextFiles()
    seen: set[tuple[int, int]] = set()
    waiting = [(root, "", False)]  # the next one last: deep folders need no deep recursion
    while waiting:
        path, name, hidden = waiting.pop()
        stopping.check()
        status = _status(path)
        if status is None or not stat.S_ISDIR(status.st_mode):
            _take(found, seen, path, name, status, hidden)
        elif (hidden and path.is_symlink()) or _is_seen(seen, status):
            if not hidden:
                found.left_out[AGAIN].append(f"{name}/")
        else:
            if name and path.is_symlink():
                found.links.append(name)
            for inner in sorted(path.iterdir(), reverse=True):
                below = f"{name}/{inner.name}" if name else inner.name
                waiting.append((inner, below, hidden or _is_hidden(inner.name)))
    return found


def _matches(pattern: Path) -> TextFiles:
    """All files that a glob names. Who writes the name of a hidden file wants it."""
    found = TextFiles()
    seen: set[tuple[int, int]] = set()
    start, parts = (Path(pattern.anchor), pattern.parts[1:]) if pattern.anchor else (Path(), pattern.parts)
    paths = sorted(set(_expanded(start, parts)))
    names = [path.name for path in paths if is_text(path.name)]
    short = len(set(names)) == len(names)
    for path in paths:
        status = _status(path)
        if status is not None and stat.S_ISDIR(status.st_mode):
            found.left_out[FOLDERS].append(f"{path.name}/")
        else:
            _take(found, seen, path, path.name if short else str(path), status, False)
    return found


def _expanded(folder: Path, parts: Sequence[str]) -> Iterator[Path]:
    """The paths below a folder that the parts of a glob name. Python's own glob is silent about folders that
    it may not look into, and follows links in circles."""
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
            if not fnmatch.fnmatchcase(path.name, part) or (_is_hidden(path.name) and part[0] != "."):
                continue
            if not rest:
                yield path
            elif path.is_dir():
                yield from _expanded(path, rest)


def _folders(root: Path) -> Iterator[Path]:
    """A folder and all below it that are not hidden, each once."""
    seen: set[tuple[int, int]] = set()
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        stopping.check()
        if not _is_seen(seen, folder.stat()):
            yield folder
            waiting += [path for path in folder.iterdir() if not _is_hidden(path.name) and path.is_dir()]


def _take(
    found: TextFiles,
    seen: set[tuple[int, int]],
    path: Path,
    name: str,
    status: os.stat_result | None,
    hidden: bool,
) -> None:
    """Puts one file where it belongs."""
    if not is_text(name):
        if not hidden:
            found.left_out[OTHER if status else BROKEN].append(name)
    elif hidden:
        found.left_out[HIDDEN].append(name)
    elif status is None:
        what = f"is a link to {path.readlink()}, which" if path.is_symlink() else "was there before, and"
        raise UserError(f"{path} {what} is not there: put the text back, or take the name away")
    else:
        _check_regular(path, status)
        if _is_seen(seen, status):
            found.left_out[AGAIN].append(name)
        elif not status.st_size and not name.lower().endswith((".gz", ".zst")):
            found.left_out[EMPTY].append(name)
        else:
            found.files[name] = path


def _status(path: Path) -> os.stat_result | None:
    """What a path leads to; None where it leads nowhere. OSError where that cannot be seen."""
    try:
        return path.stat()
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return None
        raise


def _is_seen(seen: set[tuple[int, int]], status: os.stat_result) -> bool:
    """Whether the same folder or file was seen before; from now on it was."""
    identity = (status.st_dev, status.st_ino)
    before = identity in seen
    seen.add(identity)
    return before


def _check_regular(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise UserError(
            f"{path} is no regular file but a pipe or a device, and text is read more than once: write it to "
            "a file"
        )


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name in _SYSTEM_FOLDERS


def _some(names: list[str]) -> str:
    """The first of the names, such as can be printed."""
    shown = [printable(name, 80) for name in names[:_NAMED]]
    return ", ".join([*shown, "..."] if len(names) > _NAMED else shown)
