"""The list of the kinds of tasks. A new one is a file beside these, with its record, and a line here."""

from __future__ import annotations

from typing import Any

from tlc_jax.config import Config
from tlc_jax.tasks.base import TaskKind
from tlc_jax.tasks.classification import ClassificationKind
from tlc_jax.tasks.mlm import MlmKind
from tlc_jax.tasks.translation import TranslationKind

KINDS: tuple[TaskKind[Any], ...] = (MlmKind(), ClassificationKind(), TranslationKind())


def kind_of(config: Config) -> TaskKind[Any]:
    """The kind of the task that `config` describes."""
    return next(kind for kind in KINDS if kind.config_type is type(config.task))
