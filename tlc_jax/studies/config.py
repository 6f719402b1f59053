"""Options of a study, under the name that users' config documents import, with its fields as they were."""

from __future__ import annotations

from typing import Any

from tlc_jax.config import study_options
from tlc_jax.config.renamed import RENAMED
from tlc_jax.config.study_options import SearchConfig

__all__ = ["SearchConfig", "StudyConfig"]


def StudyConfig(**fields: Any) -> study_options.StudyConfig:
    """A study whose fields may have the names that they had before."""
    new = RENAMED["StudyConfig"]
    return study_options.StudyConfig(**{new.get(name, name): value for name, value in fields.items()})
