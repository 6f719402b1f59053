"""A checkpoint as a folder of safetensors files, of any origin, read tensor by tensor.

The weights are in the files that the folder's index names; without an index, in model.safetensors, or else in
all files whose names do not stand for something else. Documents beside them (configuration, tokenizer) are
kept, also those of the modules of a SentenceTransformer. Links may lead to other files of the folder only
(docs/security.md).
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import jax
import numpy as np
import safetensors
from pydantic import Field

from tlc_jax.artifacts.safetensors_file import FLOATS, OTHERS, check_header
from tlc_jax.core import stopping
from tlc_jax.core.errors import UserError
from tlc_jax.core.native import abandonable
from tlc_jax.core.schema import Name, TypedDict, checked, record
from tlc_jax.storage.untrusted import (
    DOCUMENT,
    file_inside,
    is_plain_name,
    one_reason,
    read_json,
    size_of,
)

_DOCUMENTS = (".json", ".txt", ".model", ".jinja", ".spm", ".bpe", ".tiktoken", ".vocab")
"""Suffixes of configurations, tokenizers and templates."""
_WEIGHTS = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_SHARD = re.compile(r"(.*)-(\d{5})-of-(\d{5})\.safetensors")
_STRAY = ("adapter", "consolidated", "optimizer", "scheduler", "training", "rng", "lora")
_MODULES = "modules.json"
_MOST_DOCUMENTS = 1000
_TOKENIZER, _LARGEST_TOKENIZER = "tokenizer.json", 64 << 20  # bytes, as --data.tokenizer reads
_MODULE_WEIGHTS = 1 << 30  # bytes of what a SentenceTransformer adds to its encoder
_MOST_TENSORS, _MOST_AXES = 50_000, 32
_AT_ONCE = 1 << 20  # numbers; fewer are read faster than a thread starts


@record
class _Index(TypedDict):
    weight_map: dict[Name, Name]


@record
class _Module(TypedDict):
    path: Annotated[str, Field(max_length=1024)]


class CheckpointFolder(Mapping[str, Any]):
    """{tensor name: array}; an array is read each time it is requested, and not kept. Floats are converted to
    float32. `left_out` names safetensors files without weights of the model; `vanished` counts the weights of
    each tensor read that are too small for float32."""

    def __init__(self, folder: Path):
        if not folder.is_dir():
            raise UserError(f"{folder} is not a folder: give the folder of a checkpoint")
        present = sorted(path.name for path in folder.iterdir() if path.name.endswith(".safetensors"))
        index = _read_index(folder)
        chosen = sorted(set(index.values())) if index else _without_index(folder, present)
        self.vanished: dict[str, int] = {}
        self.left_out = [name for name in present if name not in chosen]
        self._files: dict[str, Any] = {}
        for name in chosen:
            file = _opened(folder, name)
            keys = [key for key in file.keys() if not index or index.get(key) == name]  # noqa: SIM118
            if twice := self._files.keys() & set(keys):
                raise UserError(
                    f"{folder / name} contains {sorted(twice)[0]!r} a second time: keep one of the two files"
                )
            self._files |= dict.fromkeys(keys, file)
            if len(self._files) > _MOST_TENSORS:
                raise UserError(f"{folder} holds more than {_MOST_TENSORS:,} tensors: give another folder")
        if missing := sorted(index.keys() - self._files.keys()):
            raise UserError(
                f"{folder / _INDEX} names {len(missing)} tensors that are in no file, such as "
                f"{missing[0]!r}: add the missing files"
            )
        for name, file in self._files.items():
            if (kind := file.get_slice(name).get_dtype()) not in (*FLOATS, *OTHERS):
                raise UserError(f"{name!r} has the type {kind}, which cannot be read: convert it first")
            if (axes := len(self.shape(name))) > _MOST_AXES:
                raise UserError(
                    f"{name!r} has {axes} axes, and at most {_MOST_AXES} are read: save it in another shape"
                )
        self.folder, self.files = folder, chosen
        self.others = _documents(folder)

    def __getitem__(self, name: str) -> np.ndarray:
        if math.prod(self.shape(name)) <= _AT_ONCE:
            stopping.check()
            return self._read(name)
        return abandonable(lambda: self._read(name))

    def _read(self, name: str) -> np.ndarray:
        x = self._files[name].get_tensor(name)
        if not self.is_float(name):
            return x
        with np.errstate(over="ignore"):  # larger values become infinite, and are refused by name
            narrow = x.astype(np.float32, copy=False)
        if x.dtype.itemsize > narrow.dtype.itemsize:
            self.vanished[name] = int(np.count_nonzero(x)) - int(np.count_nonzero(narrow))
        return narrow

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._files))

    def __len__(self) -> int:
        return len(self._files)

    @property
    def shapes(self) -> dict[str, jax.ShapeDtypeStruct]:
        """The shape of each tensor, and whether it holds floats or integers, without reading it."""
        kinds = {name: np.float32 if self.is_float(name) else np.int32 for name in self}
        return {name: jax.ShapeDtypeStruct(self.shape(name), kind) for name, kind in kinds.items()}

    def is_float(self, name: str) -> bool:
        return self._files[name].get_slice(name).get_dtype() in FLOATS

    def shape(self, name: str) -> tuple[int, ...]:
        """Without reading the tensor."""
        return tuple(self._files[name].get_slice(name).get_shape())


def _read_index(folder: Path) -> dict[str, str]:
    """{tensor: file} according to the folder's index; empty without one."""
    path = folder / _INDEX
    if not os.path.lexists(path):
        return {}
    try:
        weight_map = checked(read_json(file_inside(folder, _INDEX)), _Index)["weight_map"]
        if wrong := [name for name in weight_map.values() if not is_plain_name(name)]:
            raise ValueError(f"{wrong[0]!r} is not a plain name of a file in the folder")
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} is not the index of a checkpoint ({one_reason(error)}): replace it"
        ) from error
    if missing := sorted({name for name in weight_map.values() if not os.path.lexists(folder / name)}):
        raise UserError(f"{path} names {', '.join(missing[:3])}, which do not exist: add the missing files")
    return weight_map


def _without_index(folder: Path, present: list[str]) -> list[str]:
    """The files with the weights of a folder that has no index."""
    if _WEIGHTS in present:
        return [_WEIGHTS]
    chosen = [name for name in present if not name.startswith(_STRAY)]
    if not chosen:
        stray = f" but {', '.join(present)}, which hold no model" if present else ""
        raise UserError(
            f"{folder} has no .safetensors file{stray}: give the folder of a checkpoint (convert a "
            "pytorch_model.bin by saving it again with safe_serialization=True)"
        )
    shards = {shard[1]: int(shard[3]) for name in chosen if (shard := _SHARD.fullmatch(name))}
    for stem, count in shards.items():
        expected = [f"{stem}-{number:05d}-of-{count:05d}.safetensors" for number in range(1, count + 1)]
        if missing := [name for name in expected if name not in chosen]:
            raise UserError(f"{folder} lacks {', '.join(missing[:3])}: add the missing files")
    return chosen


def _opened(folder: Path, name: str) -> Any:
    try:
        path = file_inside(folder, name)
        check_header(path)
        return safetensors.safe_open(path, "numpy")
    except (OSError, ValueError, safetensors.SafetensorError) as error:
        raise UserError(f"{folder / name} is not a whole safetensors file: {one_reason(error)}") from error


def _documents(folder: Path) -> dict[str, Path]:
    """{name: path} of the documents to keep: regular files in the folder itself, and in the folders that a
    SentenceTransformer's modules.json names. UserError where one is a link out of the folder."""
    names = [path.name for path in folder.iterdir() if is_kept(path.name)]
    for module in _modules(folder):
        below = folder / module
        names += [name for path in below.iterdir() if is_kept(name := f"{module}/{path.name}")]
    documents = {}
    for name in sorted(names):
        try:
            path = file_inside(folder, name)
            size = size_of(path)
        except OSError as error:
            raise UserError(
                f"{folder / name} cannot be copied ({one_reason(error)}): remove it, or replace a link by "
                "its file"
            ) from error
        if size > (most := _most_bytes(name)):
            raise UserError(f"{folder / name} has {size:,} bytes, but at most {most:,} are copied: remove it")
        documents[name] = path
    if len(documents) > _MOST_DOCUMENTS:
        raise UserError(
            f"{folder} has {len(documents):,} documents beside its weights: remove those not needed"
        )
    return documents


def _most_bytes(name: str) -> int:
    if name.endswith(".safetensors"):
        return _MODULE_WEIGHTS
    return _LARGEST_TOKENIZER if name.rpartition("/")[2] == _TOKENIZER else DOCUMENT


def _modules(folder: Path) -> list[str]:
    """The folders below this one that a SentenceTransformer consists of."""
    if not os.path.lexists(folder / _MODULES):
        return []
    try:
        listed = checked(read_json(file_inside(folder, _MODULES)), list[_Module])
    except (OSError, ValueError) as error:
        raise UserError(
            f"{folder / _MODULES} lists no modules ({one_reason(error)}): correct or remove it"
        ) from error
    paths = sorted({module["path"].rstrip("/") for module in listed} - {""})
    if wrong := [path for path in paths if not is_plain_name(path)]:
        raise UserError(
            f"{folder / _MODULES} names {wrong[0]!r}, which is not a folder below it: correct or remove it"
        )
    return [path for path in paths if (folder / path).is_dir()]


def is_kept(name: str) -> bool:
    """Whether a file beside the weights, or MODULE/FILE in a module's folder, is copied: documents and, of a
    module, weights, which are small."""
    module, _, leaf = name.rpartition("/")
    document = leaf.endswith(_DOCUMENTS) and ".safetensors" not in leaf
    return not leaf.startswith(".") and (document or (bool(module) and leaf.endswith(".safetensors")))
