"""`python -m tlc_jax.study --config C --workdir W`: compare sizes at equal training time."""

from __future__ import annotations

import dataclasses

from tlc_jax.config.study_options import StudyConfig
from tlc_jax.core import cli
from tlc_jax.core.entry_point import run_command

EVERYDAY = (
    *("config", "workdir", "sizes", "bits", "sparsities", "compression.granularity", "compression.range"),
    *("pretrain.budget.training_seconds", "pretrain.data.dir", "pretrain.batch_size"),
    *("pretrain.optimizer.learning_rate", "finetune.budget.steps", "finetune.data.dir", "search.seeds"),
)


@dataclasses.dataclass(frozen=True)
class Study:
    """Compare sizes at equal training time; the same command resumes an interrupted study."""

    config: str
    """A study's config document: a path, or the bare name of one in configs/."""
    workdir: str
    """The folder of the study: a run directory per run, results.jsonl and study.png."""
    settings: cli.Settings[StudyConfig]


def main(argv: list[str] | None = None) -> None:
    args = cli.parse(Study, argv, everyday=EVERYDAY)
    from tlc_jax.storage.paths import parse_path
    from tlc_jax.studies.comparison import study  # imports jax: not needed for --help

    study(args.settings, parse_path(args.workdir))


if __name__ == "__main__":
    run_command(main)
