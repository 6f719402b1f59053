"""Sealed folders: manifest.json holds the size and SHA-256 of every file, and its own digest.

A seal detects damage, not intent: whoever can write the folder can write the manifest. Names, sizes and
types are therefore checked like those of any untrusted file (storage/untrusted.py).
"""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tlc_jax.core.schema import Count, Name, Sha256, TypedDict, checked, record
from tlc_jax.storage.paths import AnyPath, files, write_text
from tlc_jax.storage.untrusted import file_inside, is_plain_name, one_reason, open_regular, read_json, size_of

MANIFEST = "manifest.json"
_BLOCK = 1 << 22


class Damaged(Exception):
    """A file of a sealed folder has changed: its `path`, and the `problem` in words."""

    def __init__(self, path: AnyPath, problem: str):
        super().__init__(f"{path} {problem}")
        self.path, self.problem = path, problem


@record
class Fingerprint(TypedDict):
    """Size and digest of one file."""

    bytes: Count
    sha256: Sha256


@record
class Sealed(TypedDict):
    """What every manifest contains."""

    files: dict[Name, Fingerprint]


def sha256(path: AnyPath) -> str:
    """SHA-256 of a file, in hexadecimal."""
    return fingerprint(path)["sha256"]


def fingerprint(path: AnyPath) -> Fingerprint:
    """Size and SHA-256 in hexadecimal of a regular file."""
    digest, size = hashlib.sha256(), 0
    with open_regular(path) as file:
        while block := file.read(_BLOCK):
            digest.update(block)
            size += len(block)
    return {"bytes": size, "sha256": digest.hexdigest()}


def seal(folder: AnyPath, about: dict[str, Any]) -> dict[str, Any]:
    """Write the manifest atomically: `about`, and the fingerprints of all files in the folder. ValueError
    if `about` holds a number that JSON cannot represent."""
    names = sorted(name for name in files(folder) if name != MANIFEST)
    with ThreadPoolExecutor() as pool:  # hashing releases the GIL
        fingerprints = pool.map(lambda name: fingerprint(folder / name), names)
    manifest = {**about, "files": dict(zip(names, fingerprints, strict=True))}
    text = json.dumps({**manifest, "digest": _digest(manifest)}, indent=1, allow_nan=False)
    write_text(folder / MANIFEST, f"{text}\n")
    return manifest


def is_sealed(folder: AnyPath) -> bool:
    return (folder / MANIFEST).exists()


def open_sealed(folder: AnyPath, part: str = "") -> dict[str, Any]:
    """The manifest, after checking every byte of the files whose names start with `part`.

    Damaged names the first file that is missing or changed. Files that the manifest does not list are
    ignored.
    """
    manifest = read_manifest(folder)
    names = [name for name in manifest["files"] if name.startswith(part)]
    with ThreadPoolExecutor() as pool:
        problems = list(pool.map(lambda name: _problem(folder, manifest, name), names))
    for name, problem in zip(names, problems, strict=True):
        if problem:
            raise Damaged(folder / name, problem)
    return manifest


def read_manifest(folder: AnyPath) -> dict[str, Any]:
    """The manifest alone, checked against its own digest and schema; names of files stay below the folder."""
    path = folder / MANIFEST
    try:
        manifest = read_json(path)
    except (OSError, ValueError) as error:
        raise Damaged(path, f"cannot be read ({type(error).__name__}: {one_reason(error)})") from error
    if not isinstance(manifest, dict) or "digest" not in manifest:
        raise Damaged(path, "cannot be read: it is no object of JSON with a digest")
    digest = manifest.pop("digest")
    if digest != _digest(manifest):
        raise Damaged(path, "was changed: its digest does not match")
    try:
        checked(manifest, Sealed)
    except ValueError as error:
        raise Damaged(path, f"is no manifest ({error})") from error
    for name in manifest["files"]:
        if not is_plain_name(name):
            raise Damaged(path, f"lists the file {name!r}, which is no plain name of a file below its folder")
    return manifest


def _digest(manifest: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def _problem(folder: AnyPath, manifest: dict[str, Any], name: str) -> str | None:
    expected = manifest["files"][name]
    try:
        path = file_inside(folder, name)
        size = size_of(path)
        if size != expected["bytes"]:
            return f"has {size} bytes instead of {expected['bytes']}"
        fingerprint_now = fingerprint(path)
    except OSError as error:
        return "is missing" if isinstance(error, FileNotFoundError) else f"cannot be read ({error.strerror})"
    return None if fingerprint_now == expected else "was changed: its SHA-256 is not the manifest's"
