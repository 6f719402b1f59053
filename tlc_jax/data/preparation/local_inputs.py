"""Files on this disk that `--input` names, those in folders and archives included."""

from __future__ import annotations

import glob
from collections.abc import Callable, Sequence
from pathlib import Path

from tlc_jax.core.errors import UserError
from tlc_jax.data.fingerprints import sha256_of
from tlc_jax.data.preparation.archives import Archive, is_archive
from tlc_jax.data.preparation.input_files import InputFile, LocalFile, Member
from tlc_jax.data.text.text_files import is_hidden
from tlc_jax.storage.paths import local_folder
from tlc_jax.storage.untrusted import is_plain_name


def local_paths(inputs: Sequence[str]) -> dict[str, Path]:
    """The files that paths and globs name, those in folders included, by names that begin with the last part
    of the path; hidden ones are left out."""
    paths: dict[str, Path] = {}
    for text in inputs:
        path = local_folder(text, "an --input")
        names = [str(path)]
        if not path.exists():  # Path.glob gives hidden files too
            names = sorted(glob.glob(str(path), recursive=True))  # noqa: PTH207
        if not names:
            raise UserError(f"--input {text} does not exist: name a file, a folder, a glob or an archive")
        for match in (Path(name).resolve() for name in names):
            for path in sorted(match.rglob("*")) if match.is_dir() else [match]:
                name = path.relative_to(match.parent).as_posix()
                if path.is_file() and not any(map(is_hidden, name.split("/")[1:])):
                    paths[name if name not in paths else str(path)] = path
    return paths


def local_files(name: str, path: Path, is_wanted: Callable[[str], bool]) -> list[InputFile]:
    """The file itself, or those in it if it is an archive, in its order, that are wanted by their names."""
    if not is_archive(path.name):
        return [LocalFile(path, name)] if is_wanted(path.name) else []
    archive = Archive(path, sha256_of(path))
    return [
        Member(archive, name, size)
        for name, size in archive.members().items()
        if is_wanted(name) and is_plain_name(name) and not any(map(is_hidden, name.split("/")))
    ]
