"""A folder of anybody's safetensors files, read tensor by tensor."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors

from tlc_jax.core.errors import UserError

_FLOATS = ("F64", "F32", "F16", "BF16")
_OTHERS = ("I64", "I32", "I16", "I8", "U64", "U32", "U16", "U8", "BOOL")


class CheckpointFolder(Mapping[str, Any]):
    """{tensor name: array}; an array is read whenever it is asked for, and nobody keeps it. Floats come as
    float32, whatever they are stored as."""

    def __init__(self, folder: Path):
        if not folder.is_dir():
            raise UserError(f"--hf {folder} is no folder: name the folder of a checkpoint")
        paths = sorted(folder.glob("*.safetensors"))
        if not paths:
            raise UserError(f"--hf {folder} holds no .safetensors file: name the folder of a checkpoint")
        self._files: dict[str, Any] = {}
        for path in paths:
            try:
                file = safetensors.safe_open(path, "numpy")
            except (OSError, safetensors.SafetensorError) as error:
                raise UserError(f"{path} is no whole safetensors file: {error}") from error
            if twice := self._files.keys() & set(file.keys()):
                raise UserError(f"{path} holds {sorted(twice)[0]!r} once more: keep one of both files")
            self._files |= dict.fromkeys(file.keys(), file)
        _check_index(folder, set(self._files))
        for name, file in self._files.items():
            if (kind := file.get_slice(name).get_dtype()) not in (*_FLOATS, *_OTHERS):
                raise UserError(f"{name!r} is of the type {kind}, which cannot be read: convert it first")
        self.folder = folder
        self.others = {path.name: path for path in sorted(folder.iterdir()) if _is_small_file(path)}

    def __getitem__(self, name: str) -> np.ndarray:
        x = self._files[name].get_tensor(name)
        return x.astype(np.float32) if self.is_float(name) else x

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._files))

    def __len__(self) -> int:
        return len(self._files)

    def is_float(self, name: str) -> bool:
        return self._files[name].get_slice(name).get_dtype() in _FLOATS

    def shape(self, name: str) -> tuple[int, ...]:
        """Without reading the tensor."""
        return tuple(self._files[name].get_slice(name).get_shape())


def _is_small_file(path: Path) -> bool:
    """Configuration and tokenizers, not weights in another format."""
    return path.is_file() and path.suffix in (".json", ".txt", ".model") and ".safetensors" not in path.name


def _check_index(folder: Path, found: set[str]) -> None:
    """Where there is an index, its tensors are all there: a missing shard would be half a model."""
    for path in folder.glob("*.safetensors.index.json"):
        try:
            expected = json.loads(path.read_text())["weight_map"].keys()
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise UserError(
                f"{path} is no index of a checkpoint ({error}): put the right one there"
            ) from error
        if missing := sorted(expected - found):
            raise UserError(f"{path} names {len(missing)} tensors that no file holds, {missing[0]!r} first")
