"""Hashes that are the same on any machine: of files, to name prepared data; of texts, to choose some."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from etils import epath

from tlc_jax.core import stopping
from tlc_jax.data.provenance import check_digests
from tlc_jax.storage.untrusted import open_regular

_BLOCK = 1 << 22


def identity_of(files: dict[str, epath.Path]) -> str:
    """SHA-256 over the names and bytes of all files: equal text has an equal identity anywhere. UserError if
    a file is not as `prepare` wrote it."""
    with ThreadPoolExecutor() as pool:
        digests = list(pool.map(sha256_of, files.values()))
    check_digests(dict(zip(files.values(), digests, strict=True)))
    lines = [f"{name} {digest}\n" for name, digest in zip(files, digests, strict=True)]
    return hashlib.sha256("".join(lines).encode(errors="surrogateescape")).hexdigest()


def sha256_of(path: Path | epath.Path, advance: Callable[[int], None] = lambda size: None) -> str:
    """SHA-256 in hexadecimal of a file that may be large; signals are obeyed."""
    digest = hashlib.sha256()
    with open_regular(path if "://" in os.fspath(path) else Path(path)) as file:
        while block := file.read(_BLOCK):
            stopping.check()
            digest.update(block)
            advance(len(block))
    return digest.hexdigest()


def hash64(text: str, seed: int = 0) -> int:
    """64 bits of BLAKE2 keyed by `seed`: what chooses documents and examples."""
    key = seed.to_bytes(8, "little")
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8, key=key).digest(), "little")
