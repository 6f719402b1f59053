"""Reads the file of a tokenizer, whoever wrote it: tokenizer.json, or GPT-2's vocab.json and merges.txt."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from tlc_jax.core.errors import Interrupted, UserError, one_line
from tlc_jax.core.schema import Count, checked
from tlc_jax.data.tokenizer_growth import growth
from tlc_jax.storage.paths import AnyPath, local_folder, parse_path
from tlc_jax.storage.untrusted import one_reason, parse_json, read_bytes

_LARGEST = 64 << 20  # bytes of a tokenizer.json: the largest known ones have half as many
Result = TypeVar("Result")


def read_tokenizer(path: str | AnyPath) -> tuple[Tokenizer, AnyPath, str]:
    """The tokenizer of a file, the path of the file, and the SHA-256 of what was read. Truncation and padding
    are switched off. Raises UserError for a file that is not a tokenizer, or that can make a text many times
    longer."""
    path = _located(path)
    contents = _contents(path)
    tokenizer = guarded(path, lambda: _parsed(contents))
    if reason := guarded(path, lambda: growth(tokenizer)):
        raise UserError(f"the tokenizer {path} is not used: {reason}")
    return tokenizer, path, hashlib.sha256(b"".join(contents)).hexdigest()


def byte_level(model: models.BPE) -> Tokenizer:
    """A tokenizer that applies the model to bytes, as that of GPT-2 does."""
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def guarded(path: AnyPath, work: Callable[[], Result]) -> Result:
    """The result of `work()`; UserError for whatever the library raises for a file that is not a
    tokenizer."""
    try:
        return work()
    except BaseException as error:
        if is_of_library(error):
            raise UserError(f"{path} is not a tokenizer file: {one_line(error)}") from error
        raise


def is_of_library(error: BaseException) -> bool:
    """The library raises bare Exception, and a panic in Rust, which is not an Exception."""
    panic = type(error).__name__ == "PanicException"
    return panic or (isinstance(error, Exception) and not isinstance(error, UserError | Interrupted))


def _located(path: str | AnyPath) -> AnyPath:
    location = parse_path(path)
    return local_folder(str(location), "a --data.tokenizer") if isinstance(location, Path) else location


def _contents(path: AnyPath) -> list[bytes]:
    """The contents of `vocab.json` and the `merges.txt` beside it, or of a single file."""
    merges = path.with_name("merges.txt")
    if path.is_dir():
        raise UserError(f"the tokenizer {path} is a folder: name the tokenizer.json in it")
    paths = [path, merges] if path.name == "vocab.json" and merges.is_file() else [path]
    try:
        return [read_bytes(part, _LARGEST) for part in paths]
    except FileNotFoundError as error:
        raise UserError(f"the tokenizer {path} is not a file: name a tokenizer.json") from error
    except OSError as error:
        raise UserError(
            f"the tokenizer {error.filename or path} cannot be read: {one_reason(error)}"
        ) from error


def _parsed(contents: list[bytes]) -> Tokenizer:
    texts = [content.decode("utf-8-sig") for content in contents]
    tokenizer = byte_level(_gpt2(*texts)) if len(texts) == 2 else Tokenizer.from_str(texts[0])
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _gpt2(vocabulary: str, merges: str) -> models.BPE:
    pairs = []
    lines = merges.removesuffix("\n").split("\n") if merges else []
    for number, line in enumerate((line.rstrip("\r") for line in lines), start=1):
        if line.startswith("#version"):
            continue
        left, blank, right = line.partition(" ")
        if not (left and blank and right) or " " in right:
            raise ValueError(f"line {number:,} of merges.txt is not two tokens")
        pairs.append((left, right))
    return models.BPE(checked(parse_json(vocabulary), dict[str, Count]), pairs)
