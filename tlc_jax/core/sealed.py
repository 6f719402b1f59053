"""Places that cannot lie: a manifest.json with the size and SHA-256 of every file, and of itself."""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tlc_jax.core.place import Place, files, write_text

MANIFEST = "manifest.json"
_BLOCK = 1 << 22


class Damaged(Exception):
    """A file of a sealed folder is not what it was: `path`, and `problem` in words."""

    def __init__(self, path: Place, problem: str):
        super().__init__(f"{path} {problem}")
        self.path, self.problem = path, problem


def sha256(path: Place) -> str:
    """SHA-256 of a file, in hexadecimal."""
    return fingerprint(path)["sha256"]


def fingerprint(path: Place) -> dict[str, Any]:
    """`{'bytes': size, 'sha256': hexadecimal}` of a file."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
            size += len(block)
    return {"bytes": size, "sha256": digest.hexdigest()}


def seal(folder: Place, about: dict[str, Any]) -> dict[str, Any]:
    """Writes the manifest, whole or not at all: `about`, and what every file in the folder is now."""
    names = sorted(name for name in files(folder) if name != MANIFEST)
    with ThreadPoolExecutor() as pool:  # hashing lets other threads run
        found = pool.map(lambda name: fingerprint(folder / name), names)
    manifest = {**about, "files": dict(zip(names, found, strict=True))}
    text = json.dumps({**manifest, "digest": _digest(manifest)}, indent=1)
    write_text(folder / MANIFEST, f"{text}\n")
    return manifest


def is_sealed(folder: Place) -> bool:
    return (folder / MANIFEST).exists()


def open_sealed(folder: Place, part: str = "") -> dict[str, Any]:
    """The manifest, after every byte was checked of the files whose names begin with `part`.

    Raises Damaged at the first file that is missing or not what it was. Files that are not in the manifest
    are nobody's business.
    """
    manifest = read_manifest(folder)
    names = [name for name in manifest["files"] if name.startswith(part)]
    with ThreadPoolExecutor() as pool:
        problems = list(pool.map(lambda name: _problem(folder, manifest, name), names))
    for name, problem in zip(names, problems, strict=True):
        if problem:
            raise Damaged(folder / name, problem)
    return manifest


def read_manifest(folder: Place) -> dict[str, Any]:
    """The manifest alone, checked against its own digest."""
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text())
        digest = manifest.pop("digest")
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise Damaged(path, f"cannot be read ({type(error).__name__}: {error})") from error
    if digest != _digest(manifest):
        raise Damaged(path, "was changed: its digest is not its own")
    return manifest


def _digest(manifest: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def _problem(folder: Place, manifest: dict[str, Any], name: str) -> str | None:
    expected = manifest["files"][name]
    try:
        found = fingerprint(folder / name)
    except OSError as error:
        return "is missing" if isinstance(error, FileNotFoundError) else f"cannot be read ({error.strerror})"
    if found["bytes"] != expected["bytes"]:
        return f"has {found['bytes']} bytes instead of {expected['bytes']}"
    return None if found == expected else "was changed: its SHA-256 is not the manifest's"
