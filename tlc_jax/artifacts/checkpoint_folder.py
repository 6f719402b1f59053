"""A folder of anybody's safetensors files, read tensor by tensor."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors

from tlc_jax.core.errors import UserError

_FLOATS = ("F64", "F32", "F16", "BF16")


class CheckpointFolder(Mapping[str, Any]):
    """{tensor name: array}; an array is read whenever it is asked for, and nobody keeps it. Floats come as
    float32, whatever they are stored as."""

    def __init__(self, folder: Path):
        paths = sorted(folder.glob("*.safetensors"))
        if not paths:
            raise UserError(f"--hf {folder} holds no .safetensors file: name the folder of a checkpoint")
        self._files: dict[str, Any] = {}
        for path in paths:
            try:
                file = safetensors.safe_open(path, "numpy")
            except (OSError, safetensors.SafetensorError) as error:
                raise UserError(f"{path} is no whole safetensors file: {error}") from error
            self._files |= dict.fromkeys(file.keys(), file)
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
