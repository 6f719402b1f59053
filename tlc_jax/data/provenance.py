"""Where data that `prepare` wrote come from: their folder's manifest, which runs quote.

The manifest of such a folder has the field `prepared` (name, revision, licence, counts) beside the SHA-256 of
every file. A run that reads the folder checks its files against it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from etils import epath

from tlc_jax.core.errors import UserError
from tlc_jax.core.printable import printable
from tlc_jax.core.schema import Count, Name, NotRequired, TypedDict, checked, record
from tlc_jax.storage import sealed
from tlc_jax.storage.paths import local_folder
from tlc_jax.storage.sealed import MANIFEST, Damaged
from tlc_jax.storage.untrusted import read_json

FORMAT = 1
_CHANGED = (
    "{} was changed since prepare wrote it: prepare the data again, or remove {} to use the files as your own"
)
_QUOTED = ("name", "kind", "source", "revision", "licence", "counts")


@record
class Origin(TypedDict):
    """What is relied on of the field `prepared`."""

    format: Count
    name: Name
    kind: Name
    revision: NotRequired[Name | None]
    licence: Name
    counts: dict[Name, dict[str, Any]]


def manifest_of(folder: Path) -> dict[str, Any] | None:
    """The manifest of a folder that `prepare` wrote; None for any other folder. UserError if it was
    changed."""
    path = folder / MANIFEST
    try:
        if not path.is_file() or "prepared" not in read_json(path):
            return None
    except (OSError, ValueError, TypeError):  # another program's file of this name
        return None
    try:
        manifest = sealed.read_manifest(folder)
        origin = checked(manifest["prepared"], Origin)
    except (Damaged, ValueError) as error:
        raise UserError(
            f"{folder} was written by prepare, but its manifest cannot be used ({error}): prepare it again"
        ) from error
    if origin["format"] != FORMAT:
        raise UserError(
            f"{path} is in format {origin['format']}, which this version does not read: prepare again"
        )
    return manifest


def prepared_folder(name: str, data_dir: str | None) -> Path | None:
    """The folder of the data set `name` that `prepare` wrote: `data_dir` itself or `data_dir/name`; None if
    there is none."""
    if data_dir is None or "://" in data_dir:
        return None
    root = local_folder(data_dir, "a --data.dir")
    for folder in (root, root / name):
        manifest = manifest_of(folder)
        if manifest is not None and manifest["prepared"]["name"] == name:
            return folder
    return None


def check_digests(digests: Mapping[Path | epath.Path, str]) -> None:
    """UserError if a file of a folder that `prepare` wrote has another SHA-256 than its manifest says."""
    check_there(digests)
    manifests = _manifests(digests)
    for path, digest in digests.items():
        manifest = manifests.get(Path(path).parent) if "://" not in str(path) else None
        listed = manifest["files"].get(Path(path).name) if manifest else None
        if listed is not None and listed["sha256"] != digest:
            raise UserError(_CHANGED.format(path, Path(path).parent / MANIFEST))


def check_there(paths: Iterable[Path | epath.Path]) -> None:
    """UserError if a folder that `prepare` wrote, in which one of these files is, lacks another, or if one
    has another size than its manifest says."""
    for folder, manifest in _manifests(paths).items():
        for name, listed in manifest["files"].items():
            path = folder / name
            if not path.exists():
                raise UserError(f"{path} is missing, which prepare wrote: prepare the data again")
            if path.stat().st_size != listed["bytes"]:
                raise UserError(_CHANGED.format(path, folder / MANIFEST))


def quotes(files: Mapping[str, epath.Path]) -> list[dict[str, Any]]:
    """What the manifest of a run says of the prepared data sets to which these files belong."""
    return [
        {
            **{field: manifest["prepared"].get(field) for field in _QUOTED},
            "manifest_sha256": sealed.sha256(folder / MANIFEST),
        }
        for folder, manifest in _manifests(files.values()).items()
    ]


def sources_of(manifest: Mapping[str, Any]) -> list[str]:
    """What the prepared data of a run were made from: names of files, of data sets with their versions."""
    if "sources" in manifest:  # of sentence pairs
        return [source["name"] for source in manifest["sources"]]
    origin = manifest.get("origin", {})
    names: list[str] = []
    for part in origin.get("parts", [origin]):
        named = [" ".join(part[key] for key in ("name", "version", "split") if part.get(key))]
        versions = [
            f"documentation of {name} {version}" for name, version in part.get("versions", {}).items()
        ]
        names += part.get("files") or versions or [named[0] or part["kind"]]
    return names


def notes(files: Mapping[str, epath.Path]) -> tuple[str, ...]:
    """The same in words, a sentence for each data set."""
    return tuple(
        f"prepared {printable(quote['name'], 80)}"
        + (f", revision {printable(quote['revision'][:12])}" if quote["revision"] else "")
        + f", licence {printable(quote['licence'], 80)}"
        for quote in quotes(files)
    )


def _manifests(paths: Any) -> dict[Path, dict[str, Any]]:
    """By folder, the manifests of those that `prepare` wrote."""
    folders = sorted({Path(path).parent for path in paths if "://" not in str(path)})
    manifests = {folder: manifest_of(folder) for folder in folders}
    return {folder: manifest for folder, manifest in manifests.items() if manifest is not None}
