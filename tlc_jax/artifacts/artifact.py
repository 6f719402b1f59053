"""An artifact: a compressed model as a folder that needs no other file.

model.safetensors   `<tensor name>.<part>` for each tensor and each of its parts (encoding.py)
config.json         the run's config, from which the model is rebuilt
tokenizer.json      its tokenizer
manifest.json       what was done to each tensor, checksums of tensors and files, and of itself
README.md           a model card (model_card.py), which may be edited: the manifest does not list it

The same input gives the same bytes: no dates, no paths, sorted names. An artifact may come from anybody, and
nothing of it is used before it was checked (docs/security.md).
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import safetensors.numpy

from tlc_jax.artifacts.encoding import decode, encode
from tlc_jax.artifacts.manifest import FORMAT, artifact_manifest, check_tensors
from tlc_jax.artifacts.model_card import NAME as CARD
from tlc_jax.artifacts.model_card import WEIGHTS, ModelCard
from tlc_jax.artifacts.safetensors_file import UNREADABLE, SafetensorsFile
from tlc_jax.core import stopping
from tlc_jax.core.errors import UserError, one_line
from tlc_jax.core.invocation import command
from tlc_jax.core.leaf import Leaf, Parts
from tlc_jax.storage.claim import check_empty
from tlc_jax.storage.paths import AnyPath, make_folder, new_folder, write_bytes
from tlc_jax.storage.sealed import MANIFEST, Damaged, open_sealed, seal
from tlc_jax.storage.untrusted import file_inside, one_reason, read_bytes


@dataclass(frozen=True)
class Artifact:
    """A leaf of each tensor, on the host, and the manifest, which says what was done to each."""

    folder: AnyPath
    manifest: dict[str, Any]
    tensors: Mapping[str, Leaf]

    @property
    def of_folder(self) -> bool:
        """Whether it was made from a folder of files, whose names its tensors have, and not from a run."""
        return self.manifest["source"]["kind"] == "folder"


def write_artifact(
    folder: AnyPath,
    tensors: Iterable[tuple[str, Leaf, Mapping[str, Any]]],
    about: Callable[[], Mapping[str, Any]],
    others: Mapping[str, bytes],
    *,
    coding: str,
    card: Callable[[Mapping[str, Any]], ModelCard],
) -> dict[str, Any]:
    """Write a new folder and return its manifest. `tensors` are, in the order of names: a name, a leaf, and
    what else the manifest says of it; only their bytes are kept. `coding` is that of CompressConfig. `about`
    is called at the end for what the manifest says of the whole, `card` with the manifest; `others` are
    further files. UserError if `read_artifact` would refuse the tensors, since so few bytes stand for so many
    weights."""
    check_new(folder)
    entries: dict[str, Any] = {}
    parts: Parts = {}
    for name, leaf, more in tensors:
        stopping.check()
        entry, arrays = encode(leaf, coding)
        entries[name] = {**entry, **more, "sha256": _checksum(name, arrays)}
        parts |= {f"{name}.{part}": x for part, x in arrays.items()}
    weights = safetensors.numpy.save(parts)
    try:
        check_tensors(entries, len(weights))
    except ValueError as error:
        raise UserError(
            f"{folder} could not be read again ({error}): give a larger rank or share, or --coding plain"
        ) from error
    with new_folder(folder, exclusive=True) as making:
        write_bytes(making / WEIGHTS, weights)
        for name, content in others.items():
            write_bytes(making / name, content)
        manifest = seal(making, {"format": FORMAT, **about(), "tensors": entries})
        write_bytes(making / CARD, card(manifest).text().encode())
        return manifest


def file_bytes(tensors: Iterable[tuple[str, Leaf]], coding: str = "plain") -> int:
    """The size in bytes of the weights' file of an artifact with these names and leaves."""
    parts: Parts = {}
    for name, leaf in tensors:
        parts |= {f"{name}.{part}": array for part, array in encode(leaf, coding)[1].items()}
    return len(safetensors.numpy.save(parts))


def check_new(folder: AnyPath) -> None:
    """Refuse a folder that is not new, before any work is done for it."""
    check_empty(folder)
    make_folder(folder.parent)


def is_artifact(folder: AnyPath) -> bool:
    """Whether a folder is meant to be an artifact, undamaged or not."""
    return (folder / WEIGHTS).is_file() or (folder / MANIFEST).is_file()


def read_artifact(folder: AnyPath) -> Artifact:
    """Read an artifact and check every byte of it. UserError names the tensor or file that is damaged."""
    artifact = open_artifact(folder)
    return dataclasses.replace(artifact, tensors=dict(artifact.tensors))


def open_artifact(folder: AnyPath) -> Artifact:
    """`read_artifact` whose leaves are read each time they are requested, and not kept: a request raises
    UserError where a tensor is not what the manifest says."""
    if not (folder / MANIFEST).is_file():
        raise UserError(
            f"{folder} has a {WEIGHTS} but no {MANIFEST}: restore it from a copy of the artifact; if this is "
            f"a folder of another program, compress it first: {command('compress')} --hf {folder} --out DIR"
        )
    try:
        manifest = artifact_manifest(folder, WEIGHTS)
        tensors = _StoredTensors(folder, manifest)
        open_sealed(folder)  # checks the rest: headers, other files
        return Artifact(folder, manifest, tensors)
    except Damaged as damage:
        raise _refused(damage) from damage


def _refused(damage: Damaged) -> UserError:
    return UserError(f"the artifact is damaged: {damage}; restore a whole copy")


def other_files(artifact: Artifact) -> dict[str, bytes]:
    """The contents of the files beside the weights and the manifest: configuration, tokenizer."""
    sizes = {name: file["bytes"] for name, file in artifact.manifest["files"].items() if name != WEIGHTS}
    return {name: read_bytes(file_inside(artifact.folder, name), size) for name, size in sizes.items()}


class _StoredTensors(Mapping[str, Leaf]):
    """The leaves of an artifact, read one at a time. Damaged where the file holds other tensors than the
    manifest, or other bytes of them."""

    def __init__(self, folder: AnyPath, manifest: dict[str, Any]):
        self._path, self._entries = folder / WEIGHTS, manifest["tensors"]
        try:
            path, declared = file_inside(folder, WEIGHTS), manifest["files"][WEIGHTS]["bytes"]
            self._file = SafetensorsFile(path, declared)
        except UNREADABLE as error:
            raise self._unreadable(error) from error
        self._part_names: dict[str, list[str]] = {name: [] for name in self._entries}
        for key in self._file.keys:
            name, _, part = key.rpartition(".")
            if name not in self._part_names:
                raise Damaged(self._path, f"holds {key}, of which the manifest knows nothing")
            self._part_names[name].append(part)
        for name, entry in self._entries.items():
            stopping.check()
            if _checksum(name, self._parts(name)) != entry["sha256"]:
                changed = f"holds a tensor {name} that was changed: its SHA-256 is not the manifest's"
                raise Damaged(self._path, changed)

    def __getitem__(self, name: str) -> Leaf:
        try:
            return decode(self._entries[name], self._parts(name))
        except ValueError as error:
            contradicts = f"holds a tensor {name} that is not what its manifest says ({one_line(error)})"
            raise _refused(Damaged(self._path, contradicts)) from error
        except Damaged as damage:
            raise _refused(damage) from damage

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def _parts(self, name: str) -> Parts:
        try:
            return {part: self._file.read(f"{name}.{part}") for part in self._part_names[name]}
        except UNREADABLE as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: Exception) -> Damaged:
        return Damaged(self._path, f"cannot be read ({type(error).__name__}: {one_reason(error)})")


def _checksum(name: str, parts: Parts) -> str:
    """SHA-256 over the names, types, shapes and bytes of a tensor's parts."""
    digest = hashlib.sha256()
    for part, x in sorted(parts.items()):
        digest.update(f"{name}.{part} {x.dtype.str} {x.shape}".encode())
        digest.update(x.tobytes())
    return digest.hexdigest()
