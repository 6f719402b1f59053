"""Prepared data on disk: a folder of files and a manifest with the checksum of each."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from tlc_jax.core.errors import UserError
from tlc_jax.core.schema import Sha256, TypedDict, checked, record
from tlc_jax.storage import sealed
from tlc_jax.storage.paths import AnyPath, copy_file, new_folder
from tlc_jax.storage.sealed import MANIFEST, Damaged

Manifest = dict[str, Any]


@record
class _Identified(TypedDict):
    identity: Sha256
    """SHA-256 over all that the data depend on; the cache keeps them by it."""


def open_sealed(folder: Path) -> Manifest:
    """The manifest, after checking every byte; a damaged or changed file is refused by name."""
    try:
        return _identified(folder, sealed.open_sealed(folder))
    except Damaged as damage:
        raise UserError(f"token file {damage}: remove {folder} to pack the text again") from damage


def keep(source: Path, manifest: Manifest, folder: AnyPath) -> None:
    """The same files in a run's own folder (hard links where possible): the run outlives the cache."""
    names = (*manifest["files"], MANIFEST)  # the manifest last: with it the folder is whole
    if not isinstance(folder, Path):
        for name in names:
            copy_file(source / name, folder / name)
        return
    with new_folder(folder) as temporary:
        for name in names:
            try:
                os.link(source / name, temporary / name)
            except OSError:  # another file system
                copy_file(source / name, temporary / name)


def nearby(folder: AnyPath, cache: Path) -> Path:
    """A local folder with the same files: `folder` itself, or what was fetched from its bucket."""
    if isinstance(folder, Path):
        return folder
    try:
        manifest = _identified(folder, sealed.read_manifest(folder))
    except Damaged as damage:
        raise UserError(f"token file {damage}: put the run's own files back") from damage
    local = cache / manifest["identity"][:20]
    if not local.exists():
        with new_folder(local) as temporary:
            for name in (*manifest["files"], MANIFEST):
                copy_file(folder / name, temporary / name)
    return local


def _identified(folder: AnyPath, manifest: Manifest) -> Manifest:
    try:
        checked(manifest, _Identified)
    except ValueError as error:
        raise Damaged(folder / MANIFEST, f"is no manifest of prepared data ({error})") from error
    return manifest
