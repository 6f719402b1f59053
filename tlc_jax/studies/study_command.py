"""The command that makes a study, from its config: the document that is nearest to it, and the options in
which it differs."""

from __future__ import annotations

import functools
import shlex
from pathlib import Path
from typing import Any

from tlc_jax.config.saved import flat
from tlc_jax.config.study_options import StudyConfig
from tlc_jax.core import config_document
from tlc_jax.core.errors import UserError
from tlc_jax.core.invocation import command

_OF_THE_MACHINE = ("data.dir", "data.cache_dir")
"""Options that say where files are; a command names none of them."""


def study_command(config: StudyConfig, document: str | None = None) -> str:
    """Such as `python -m tlc_jax.study --config study_translation:mini --workdir W --seeds 100 101`, without
    the paths of data; from the document of this name, else from the nearest."""
    name = document or nearest_document(config)
    options = _differences(config, _load(name))
    given = " ".join(f"--{key.replace('_', '-')} {_text(value)}".strip() for key, value in options.items())
    return f"{command('study')} --config {name} --workdir W {given}".strip()


def scale_of(config: StudyConfig) -> str:
    """The scale of the nearest document, such as mini; '' if it has none."""
    return nearest_document(config).partition(":")[2]


def nearest_document(config: StudyConfig) -> str:
    """The name of the document from which the config differs in the fewest options."""
    candidates = {}
    for name in (
        scaled
        for document in config_document.config_names()
        for scaled in config_document.scaled_names(document)
    ):
        try:
            document = _load(name)
        except UserError:
            continue  # a document of another command
        candidates[name] = (_trains(document) != _trains(config), len(_differences(config, document)))
    return min(candidates, key=lambda name: candidates[name])


def _trains(config: StudyConfig) -> tuple[bool, bool]:
    """Whether sizes are trained, and whether anything is finetuned."""
    return not config.pretrained, config.finetune is not None


def _load(name: str) -> StudyConfig:
    return _loaded(config_document.config_folder(), name)


@functools.cache
def _loaded(_folder: Path, name: str) -> StudyConfig:
    """The document of this name; folders have documents of their own."""
    return config_document.load_config(name, StudyConfig)


def _differences(config: StudyConfig, document: StudyConfig) -> dict[str, Any]:
    before, now = (
        {**flat(each), "pretrained": tuple(given.name for given in each.given)} for each in (document, config)
    )
    return {
        key: value
        for key, value in now.items()
        if value != before.get(key) and not key.endswith(_OF_THE_MACHINE)
    }


def _text(value: Any) -> str:
    values = value if isinstance(value, tuple) else (value,)
    return " ".join(shlex.quote(str(each)) for each in values)
