"""Sentence pairs that are already on the machine: message catalogues of installed Python packages.

A catalogue maps English messages to translations; plural forms,
and messages that are the same in both languages, are left out.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

from etils import epath

from tlc_jax.core import stopping
from tlc_jax.core.errors import UserError, one_line

PACKAGES = ("django", "pycountry", "sphinx")


def catalogue_files(source: str, target: str) -> dict[str, epath.Path]:
    """The catalogues for `target`, by names that do not depend on where packages are installed."""
    if source != "en":
        raise UserError(
            f"data.source is {source}, and message catalogues translate from English: set it to en"
        )
    if not re.fullmatch(r"\w+([-@]\w+)*", target):  # it becomes a part of paths
        raise UserError(f"data.target is {target!r}, which is not the name of a language: correct it")
    files: dict[str, epath.Path] = {}
    for package in PACKAGES:
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            raise UserError(
                f"{package}, a package with message catalogues, is not installed: pip install {package}"
            )
        root = Path(spec.origin).parent
        for path in sorted(root.rglob(f"{target}/LC_MESSAGES/*.mo")):
            files[f"{package}/{path.relative_to(root)}"] = epath.Path(path)
    if not files:
        raise UserError(
            f"{', '.join(PACKAGES)} have no message catalogue in {target}: choose another data.target"
        )
    return files


def read_catalogues(files: dict[str, epath.Path], target: str) -> Iterator[tuple[str, str]]:
    """(English, translation) of every message, in the order of the files; line breaks become spaces."""
    from babel.messages.mofile import read_mo

    for path in files.values():
        stopping.check()
        try:
            with path.open("rb") as file:
                messages = list(read_mo(file))
        except Exception as error:  # whatever the parser makes of a damaged catalogue
            raise UserError(
                f"{path} cannot be read ({one_line(error)}): reinstall the package that it belongs to"
            ) from error
        for message in messages:
            source, translation = message.id, message.string
            if not isinstance(source, str) or not isinstance(translation, str):
                continue  # plural forms
            source, translation = " ".join(source.split()), " ".join(translation.split())
            if source and translation and source != translation:
                yield source, translation
