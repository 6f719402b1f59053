"""Prepared data of every kind on disk: a folder of files with a manifest, named by what the data depend on.

One mechanism: `prepare` finds a folder in the cache or builds and seals it, `Prepared.open` checks every byte
and every field, `keep` puts the same files into a run directory, `local_copy` fetches them from a bucket.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Container, Iterable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
from jaxtyping import Integer

from tlc_jax.core.errors import UserError
from tlc_jax.core.printable import printable
from tlc_jax.core.schema import Sha256, checked
from tlc_jax.data.manifests import naming
from tlc_jax.data.recorded_roles import recorded, roles_in
from tlc_jax.data.tokenizer_trimming import TrimmedVocabulary
from tlc_jax.storage import sealed
from tlc_jax.storage.paths import AnyPath, copy_file, local_folder, new_folder, write_text
from tlc_jax.storage.sealed import MANIFEST, Damaged
from tlc_jax.storage.untrusted import read_json

Kind = TypeVar("Kind", bound="Prepared")
Item = TypeVar("Item")
CHANGED = "{} changed while it was read: run the same command again when nobody writes there"


@dataclass(frozen=True)
class Prepared(ABC):
    """Prepared data in a folder; `manifest` describes them. A kind of data is a subclass that says what its
    manifest must be and checks that the files agree with it."""

    folder: Path
    manifest: dict[str, Any]
    vocabulary: TrimmedVocabulary | None = None
    """What is left of the vocabulary that the files were encoded with; None: all of it."""

    schema: ClassVar[type]
    """A TypedDict of the fields that are relied on, whoever wrote the manifest."""
    formats: ClassVar[Container[Any]]
    """Values of the field `format` that this version reads."""

    @classmethod
    def open(cls: type[Kind], folder: Path) -> Kind:
        """The data in a folder, after checking every byte and all that a task relies on; UserError names the
        file or the field that is wrong."""
        try:
            prepared = cls(folder, sealed.open_sealed(folder))
        except Damaged as damage:
            raise UserError(f"prepared data {damage}: remove {folder} to prepare them again") from damage
        version = prepared.manifest.get("format")
        if version not in cls.formats:
            raise UserError(
                f"{folder / MANIFEST} describes data in format {printable(version)}, which this version does "
                "not read: use the version that prepared them, or start again in a new --workdir"
            )
        with naming(folder):
            checked(prepared.manifest, cls.schema)
            prepared.check()
        return prepared

    @abstractmethod
    def check(self) -> None:
        """ValueError if the manifest, whose fields have the right types, and the files do not agree."""

    @abstractmethod
    def stored_ids(self, name: str) -> tuple[Integer[np.ndarray, "..."], ...]:
        """All ids of a set as they are in the files."""

    def trimmed(self: Kind, vocabulary: TrimmedVocabulary) -> Kind:
        """The same data for a model with this vocabulary. A token that is gone is unknown; the trimmed
        tokenizer itself may have made several smaller ones of its text."""
        digest = hashlib.sha256(f"{self.manifest['identity']} {vocabulary.tokenizer}".encode()).hexdigest()
        size = len(vocabulary.kept)
        manifest = {**self.manifest, "identity": digest, "vocab_size": size}
        if manifest.pop("roles", None) is not None:
            roles = roles_in(self.manifest).renumbered(vocabulary.new_ids.tolist(), vocabulary.kept.tolist())
            manifest |= recorded(roles)
        return dataclasses.replace(self, manifest=manifest, vocabulary=vocabulary)

    def ids(self, stored: Integer[np.ndarray, "*shape"]) -> Integer[np.ndarray, "*shape"]:
        """Ids of the vocabulary, of those in the files."""
        if self.vocabulary is None:
            return stored
        return self.vocabulary.new_ids.astype(stored.dtype)[stored]


def root(cache_dir: str) -> Path:
    """The folder of all that is kept for all runs; UserError if its home folder does not exist."""
    return local_folder(cache_dir, "a --data.cache-dir")


def prepare(cache_dir: str, depends_on: dict[str, Any], build: Callable[[Path], dict[str, Any]]) -> Path:
    """The folder in the cache with the data that depend on nothing else than `depends_on` (JSON values).

    If it does not exist, `build` writes the files into a new folder and returns the fields of the manifest.
    The folder appears whole or, if `build` raises, not at all.
    """
    identity = hashlib.sha256(json.dumps(depends_on, sort_keys=True).encode()).hexdigest()
    if _only_asked.get():
        raise _Asked(identity)
    folder = root(cache_dir) / identity[:20]
    if not folder.exists():
        with new_folder(folder) as temporary:
            fields = build(temporary)
            sealed.seal(temporary, {"identity": identity, **fields})
    return folder


def remembered(
    cache_dir: str, depends_on: dict[str, Any], compute: Callable[[], dict[str, float]]
) -> dict[str, float]:
    """What `compute` returns, which depends on nothing else than `depends_on` (JSON values): from the cache
    where it was computed before. Where it cannot be kept, it is computed again next time."""
    identity = hashlib.sha256(json.dumps(depends_on, sort_keys=True).encode()).hexdigest()
    path = root(cache_dir) / "baselines" / f"{identity[:20]}.json"
    with contextlib.suppress(OSError, ValueError):  # missing, or damaged
        return checked(read_json(path), dict[str, float])
    values = compute()
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(values))
    return values


def identity_if_prepared(prepare_data: Callable[[], object]) -> str:
    """The identity of the data that a call of `prepare_data` would find or build; nothing is built here."""
    before = _only_asked.set(True)
    try:
        prepare_data()
    except _Asked as asked:
        return asked.identity
    finally:
        _only_asked.reset(before)
    raise AssertionError("data are prepared by `prepare`")


class _Asked(Exception):
    """Leaves `prepare` with what was asked for."""

    def __init__(self, identity: str):
        super().__init__(identity)
        self.identity = identity


_only_asked: ContextVar[bool] = ContextVar("only_asked", default=False)


def read_again(name: str, items: Iterable[Item], marks: np.ndarray) -> Iterator[tuple[Item, Any]]:
    """The items of a source that was read before, each with its mark; UserError if their number has
    changed."""
    iterator = iter(items)
    for mark in marks.tolist():
        try:
            yield next(iterator), mark
        except StopIteration:
            raise UserError(CHANGED.format(name)) from None
    if next(iterator, None) is not None:
        raise UserError(CHANGED.format(name))


def keep(data: Prepared, folder: AnyPath) -> None:
    """Put the same files into a run's own folder (hard links where possible): the run outlives the cache."""
    if isinstance(folder, Path):
        with new_folder(folder) as temporary:
            _copy(data.manifest, data.folder, temporary)
    else:
        _copy(data.manifest, data.folder, folder)


def local_copy(folder: AnyPath, cache_dir: str) -> Path:
    """A local folder with the same files: `folder` itself, or a copy in the cache of one in a bucket."""
    if isinstance(folder, Path):
        return folder
    try:
        manifest = sealed.read_manifest(folder)
        [identity] = checked([manifest.get("identity")], list[Sha256])
    except (Damaged, ValueError) as error:
        raise UserError(
            f"prepared data {folder / MANIFEST} cannot be used ({error}): put back the files of the run"
        ) from error
    copy = root(cache_dir) / identity[:20]
    if not copy.exists():
        with new_folder(copy) as temporary:
            _copy(manifest, folder, temporary)
    return copy


def _copy(manifest: dict[str, Any], source: AnyPath, target: AnyPath) -> None:
    for name in (*manifest["files"], MANIFEST):  # the manifest last: with it the folder is complete
        try:
            os.link(source / name, target / name)
        except OSError:  # another file system, or a bucket
            copy_file(source / name, target / name)
