"""A folder that Hugging Face's transformers loads: what is the same for every model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np
import safetensors.numpy

from tlc_jax.config import TransformerConfig
from tlc_jax.core.errors import UserError
from tlc_jax.core.stacked import Tensors
from tlc_jax.storage.paths import AnyPath, write_bytes

WEIGHTS = "model.safetensors"
Names = Mapping[str, str]
"""{our tensor: Hugging Face's}, of a model family (models/family.py)."""


def read_arrays(folder: AnyPath) -> dict[str, np.ndarray]:
    """The arrays that `write_arrays` wrote."""
    return safetensors.numpy.load((folder / WEIGHTS).read_bytes())


def write_arrays(folder: AnyPath, arrays: Tensors, others: Mapping[str, bytes]) -> None:
    """Write tensors by their names, and the files beside them, in this order."""
    write_bytes(folder / WEIGHTS, safetensors.numpy.save(arrays, {"format": "pt"}))
    for name, content in others.items():
        write_bytes(folder / name, content)


def store_bfloat16(folder: AnyPath) -> None:
    """Write the floats of `write_arrays` again in 16 bits, each rounded to the nearest, and say so in
    config.json, by which transformers loads them."""
    arrays = {
        name: x.astype(ml_dtypes.bfloat16) if x.dtype.kind == "f" else x
        for name, x in read_arrays(folder).items()
    }
    config = json.loads((folder / "config.json").read_bytes())
    write_arrays(folder, arrays, {"config.json": json_file({**config, "dtype": "bfloat16"})})


def json_file(content: Mapping[str, Any]) -> bytes:
    """The content of a JSON file as transformers writes it."""
    return f"{json.dumps(content, indent=2, ensure_ascii=False)}\n".encode()


def transposed(ours: str, x: np.ndarray) -> np.ndarray:
    """The array, transposed between [in, out] and [out, in] where it is a linear layer's kernel."""
    return np.ascontiguousarray(x.T if ours.endswith("/kernel") else x)


def heads_do_not_fit(config: TransformerConfig) -> UserError:
    """The error for heads that do not fill the hidden size."""
    return UserError(
        f"Hugging Face cannot express {config.heads} heads of {config.head_size} in a hidden size of "
        f"{config.hidden_size}: its heads fill the hidden size exactly"
    )
