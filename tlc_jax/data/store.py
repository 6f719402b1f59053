"""Prepared data on disk: a folder of files and a manifest with the checksum of each."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tlc_jax.core.errors import UserError
from tlc_jax.core.rundir import make_folder
from tlc_jax.data.sources import sha256

Manifest = dict[str, Any]


@contextlib.contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder that becomes `folder` when the block ends well, and disappears otherwise."""
    temporary = folder.with_name(f"{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    make_folder(temporary)
    try:
        yield temporary
        if not folder.exists():  # another process may have made the same meanwhile
            temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def seal(folder: Path, manifest: Manifest) -> None:
    """Writes manifest.json: `manifest` and the size and checksum of every file in the folder."""
    files = {
        path.name: {"bytes": path.stat().st_size, "sha256": sha256(path)} for path in sorted(folder.iterdir())
    }
    (folder / "manifest.json").write_text(json.dumps({**manifest, "files": files}, indent=1) + "\n")


def open_sealed(folder: Path) -> Manifest:
    """The manifest, after checking every byte; a damaged or changed file is refused by name."""
    path = folder / "manifest.json"
    try:
        manifest = json.loads(path.read_text())
        files, _ = manifest["files"], (manifest["identity"], manifest["baselines"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} cannot be read ({error}): remove {folder} to pack the text again") from error
    for name, expected in files.items():
        path = folder / name
        size = path.stat().st_size if path.is_file() else None
        if size is None:
            problem = "is missing"
        elif size != expected["bytes"]:
            problem = f"has {size} bytes instead of {expected['bytes']}"
        elif sha256(path) != expected["sha256"]:
            problem = "was changed: its SHA-256 is not the manifest's"
        else:
            continue
        raise UserError(f"token file {path} {problem}: remove {folder} to pack the text again")
    return manifest


def link(source: Path, manifest: Manifest, folder: Path) -> None:
    """The same files in a run's own folder (hard links where possible): the run outlives the cache."""
    with new_folder(folder) as temporary:
        for name in (*manifest["files"], "manifest.json"):
            try:
                os.link(source / name, temporary / name)
            except OSError:  # another file system
                shutil.copyfile(source / name, temporary / name)
