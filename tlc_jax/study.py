"""`python -m tlc_jax.study --config C --workdir W` compares sizes at equal training time; `--workdir W` alone
resumes a study."""

from __future__ import annotations

import dataclasses
import sys
from typing import Optional

from tlc_jax.config.study_options import StudyConfig
from tlc_jax.core import cli, command_line
from tlc_jax.core.entry_point import run_command
from tlc_jax.core.errors import UserError

EVERYDAY = (
    *("config", "workdir", "sizes", "pretrained", "bits", "sparsities", "compression.granularity"),
    *("compression.range", "workers", "dry_run", "seeds", "train.budget.training_seconds", "train.data.dir"),
    *("train.batch_size", "train.optimizer.learning_rate", "finetune.budget.steps", "finetune.data.dir"),
    "search.seeds",
)


@dataclasses.dataclass(frozen=True)
class Study:
    """Compare sizes at equal training time. An interrupted study is resumed by its --workdir alone."""

    workdir: str
    """The folder of the study: run directories in runs/, results in items/, study.png, the page study.html.
    Several processes and machines may work on the same one."""
    settings: cli.Settings[StudyConfig]
    config: Optional[str] = None
    """A study's config document: a path, or the bare name of one in configs/, perhaps with a scale
    (study_translation:gpu). Without it, the study in --workdir is resumed with the config that it has."""
    workers: int = 1
    """Processes on this machine, each on cores of its own, that share the work."""
    dry_run: bool = False
    """Print the items, those that are finished, and the predicted time and disk; do nothing."""


def main(argv: list[str] | None = None) -> None:
    arguments = list(sys.argv[1:] if argv is None else argv)
    stored = _stored_config(arguments)
    args = cli.parse(Study, arguments, settings=stored, everyday=EVERYDAY)
    if not (args.config or stored):
        _refuse_others(args.workdir)
        raise UserError(
            f"--workdir {args.workdir} holds no study to resume: to begin one there, give --config with a "
            "study's config document, such as --config quickstart_study"
        )
    from tlc_jax.data.location import check_exists
    from tlc_jax.storage.paths import parse_path
    from tlc_jax.storage.run_directory import STUDY

    if args.workers < 1:
        raise UserError(f"--workers must be at least 1, not {args.workers}")
    workdir = parse_path(args.workdir)
    if not (workdir / STUDY).exists():
        trained = None if args.settings.pretrained else args.settings.train
        for config in filter(None, (trained, args.settings.finetune)):
            check_exists(config.data.dir)
    if args.dry_run:
        from tlc_jax.studies.dry_run import dry_run
        from tlc_jax.training.view import make_console

        dry_run(args.settings, workdir, make_console())
        return
    from tlc_jax.studies.comparison import study  # imports jax: not needed for --help

    study(args.settings, workdir, args.workers)


def _stored_config(arguments: list[str]) -> StudyConfig | None:
    """The config of the study that its folder alone resumes; None where there is none."""
    workdir = command_line.option(arguments, "--workdir")
    if workdir is None or command_line.option(arguments, "--config"):
        return None
    from tlc_jax.storage.paths import parse_path
    from tlc_jax.studies.study_record import read_config

    return read_config(parse_path(workdir))


def _refuse_others(workdir: str) -> None:
    from tlc_jax.storage.paths import parse_path
    from tlc_jax.studies.study_record import refuse_others

    refuse_others(parse_path(workdir))


if __name__ == "__main__":
    run_command(main)
