"""An artifact: a compressed model as a folder that needs no other file.

model.safetensors   `<tensor name>.<part>` for each tensor and each of its parts (encoding.py)
config.json         the run's config, from which the model is rebuilt
tokenizer.json      its tokenizer
manifest.json       what was done to each tensor, checksums of tensors and files, and of itself

The same input gives the same bytes: no dates, no paths, sorted names. It may come from anybody: nothing of it
is used before it was checked (docs/security.md).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import safetensors
import safetensors.numpy

from tlc_jax.artifacts.encoding import decode, encode
from tlc_jax.artifacts.manifest import FORMAT, artifact_manifest
from tlc_jax.core import stopping
from tlc_jax.core.errors import UserError, one_line
from tlc_jax.core.leaf import Leaf, Parts
from tlc_jax.storage.claim import check_empty
from tlc_jax.storage.paths import AnyPath, make_folder, new_folder, write_bytes
from tlc_jax.storage.sealed import MANIFEST, Damaged, open_sealed, seal
from tlc_jax.storage.untrusted import file_inside, one_reason, read_bytes

WEIGHTS = "model.safetensors"


@dataclass(frozen=True)
class Artifact:
    """A leaf of each tensor, on the host, and the manifest, which says what was done to each."""

    folder: AnyPath
    manifest: dict[str, Any]
    tensors: dict[str, Leaf]

    @property
    def of_folder(self) -> bool:
        """Whether it was made of somebody's files and not of a run: its names are theirs."""
        return self.manifest["source"]["kind"] == "folder"


def write_artifact(
    folder: AnyPath,
    tensors: Iterable[tuple[str, Leaf, Mapping[str, Any]]],
    about: Callable[[], Mapping[str, Any]],
    others: Mapping[str, bytes],
    *,
    zstd: bool,
) -> dict[str, Any]:
    """Write a new folder and return its manifest. `tensors` are, in the order of names: a name, a leaf, and
    what else the manifest says of it; only their bytes are kept. `about` is called at the end for what the
    manifest says of the whole; `others` are further files."""
    check_new(folder)
    entries: dict[str, Any] = {}
    parts: Parts = {}
    for name, leaf, more in tensors:
        stopping.check()
        entry, arrays = encode(leaf, zstd)
        entries[name] = {**entry, **more, "sha256": _checksum(name, arrays)}
        parts |= {f"{name}.{part}": x for part, x in arrays.items()}
    with new_folder(folder, exclusive=True) as making:
        write_bytes(making / WEIGHTS, safetensors.numpy.save(parts))
        for name, content in others.items():
            write_bytes(making / name, content)
        return seal(making, {"format": FORMAT, **about(), "tensors": entries})


def file_bytes(tensors: Iterable[tuple[str, Leaf]], zstd: bool = False) -> int:
    """The size in bytes of the weights' file of an artifact with these names and leaves."""
    parts: Parts = {}
    for name, leaf in tensors:
        parts |= {f"{name}.{part}": array for part, array in encode(leaf, zstd)[1].items()}
    return len(safetensors.numpy.save(parts))


def check_new(folder: AnyPath) -> None:
    """Before any work is done for it."""
    check_empty(folder)
    make_folder(folder.parent)


def is_artifact(folder: AnyPath) -> bool:
    """Whether it is meant to be one; not whether it is whole."""
    return (folder / WEIGHTS).is_file() or (folder / MANIFEST).is_file()


def read_artifact(folder: AnyPath) -> Artifact:
    """Every byte is checked. UserError names the tensor or the file that is damaged."""
    if not (folder / MANIFEST).is_file():
        raise UserError(
            f"{folder} has a {WEIGHTS} but no {MANIFEST}: it is an artifact that lost it, which another copy "
            "mends, or the folder of another program, which only compress --hf reads"
        )
    try:
        manifest = artifact_manifest(folder, WEIGHTS)
        return Artifact(folder, manifest, _read_tensors(folder, manifest))
    except Damaged as damage:
        raise UserError(f"the artifact is damaged: {damage}; put a whole copy there") from damage


def other_files(artifact: Artifact) -> dict[str, bytes]:
    """What lies beside the weights, without the manifest: configuration, tokenizer."""
    listed = {name: own["bytes"] for name, own in artifact.manifest["files"].items() if name != WEIGHTS}
    return {name: read_bytes(file_inside(artifact.folder, name), size) for name, size in listed.items()}


def _read_tensors(folder: AnyPath, manifest: dict[str, Any]) -> dict[str, Leaf]:
    path = folder / WEIGHTS
    try:
        declared = manifest["files"][WEIGHTS]["bytes"]
        arrays = safetensors.numpy.load(read_bytes(file_inside(folder, WEIGHTS), declared))
    except (OSError, safetensors.SafetensorError, KeyError, ValueError, TypeError) as error:
        raise Damaged(path, f"cannot be read ({type(error).__name__}: {one_reason(error)})") from error
    parts: dict[str, Parts] = {name: {} for name in manifest["tensors"]}
    for key, x in arrays.items():
        name, _, part = key.rpartition(".")
        if name not in parts:
            raise Damaged(path, f"holds {key}, of which the manifest knows nothing")
        parts[name][part] = x
    for name, entry in manifest["tensors"].items():
        if _checksum(name, parts[name]) != entry["sha256"]:
            raise Damaged(path, f"holds a tensor {name} that was changed: its SHA-256 is not the manifest's")
    open_sealed(folder)  # what is left of it: headers, other files
    return {name: _decoded(path, name, entry, parts[name]) for name, entry in manifest["tensors"].items()}


def _decoded(path: AnyPath, name: str, entry: dict[str, Any], parts: Parts) -> Leaf:
    try:
        return decode(entry, parts)
    except ValueError as error:
        raise Damaged(
            path, f"holds a tensor {name} that is not what its manifest says ({one_line(error)})"
        ) from error


def _checksum(name: str, parts: Parts) -> str:
    """SHA-256 over the names, types, shapes and bytes of a tensor's parts."""
    found = hashlib.sha256()
    for part, x in sorted(parts.items()):
        found.update(f"{name}.{part} {x.dtype.str} {x.shape}".encode())
        found.update(x.tobytes())
    return found.hexdigest()
