"""Options of a study, under the name that users' config documents import."""

from tlc_jax.config.study_options import SearchConfig, StudyConfig

__all__ = ["SearchConfig", "StudyConfig"]
