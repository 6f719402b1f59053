"""Forged folders: sealed anew after a change, as anyone can who may write them."""

from __future__ import annotations

import hashlib
import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from tlc_jax.artifacts.artifact import WEIGHTS, _checksum


def load(folder: Path) -> dict[str, Any]:
    """The manifest without its digest."""
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    del manifest["digest"]
    return manifest


def sign(folder: Path, manifest: dict[str, Any]) -> None:
    """Writes the manifest with the digest that it should have."""
    digest = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps({**manifest, "digest": digest}), encoding="utf-8")


def fingerprint_of(path: Path) -> dict[str, Any]:
    content = path.read_bytes()
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def forge(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Lets `change` alter the manifest; files and digests are those of what is there then."""
    manifest = load(folder)
    change(manifest)
    for name in list(manifest["files"]) if isinstance(manifest.get("files"), dict) else []:
        if (folder / name).is_file() and isinstance(manifest["files"][name], dict):
            manifest["files"][name] |= fingerprint_of(folder / name)
    sign(folder, manifest)


def forge_parts(folder: Path, name: str, parts: dict[str, np.ndarray], **entry: Any) -> None:
    """Replaces parts of one tensor of an artifact, and what its manifest says of it."""
    arrays = safetensors.numpy.load((folder / WEIGHTS).read_bytes())
    own = {key.removeprefix(f"{name}."): x for key, x in arrays.items() if key.rpartition(".")[0] == name}
    own |= parts
    arrays |= {f"{name}.{part}": x for part, x in own.items()}
    (folder / WEIGHTS).write_bytes(safetensors.numpy.save(arrays))
    forge(folder, lambda m: m["tensors"][name].update(sha256=_checksum(name, own), **entry))


def peak_of(call: Callable[[], object]) -> int:
    """Bytes of Python's memory that a call needs at most."""
    tracemalloc.start()
    try:
        call()
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    return peak
