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
    *("config", "workdir", "sizes", "bits", "sparsities", "compression.granularity", "compression.range"),
    *("pretrain.budget.training_seconds", "pretrain.data.dir", "pretrain.batch_size"),
    *("pretrain.optimizer.learning_rate", "finetune.budget.steps", "finetune.data.dir", "search.seeds"),
)


@dataclasses.dataclass(frozen=True)
class Study:
    """Compare sizes at equal training time. An interrupted study is resumed by its --workdir alone."""

    workdir: str
    """The folder of the study: a run directory per run, results.jsonl and study.png."""
    settings: cli.Settings[StudyConfig]
    config: Optional[str] = None
    """A study's config document: a path, or the bare name of one in configs/. Without it, the study in
    --workdir is resumed with the config that it has."""


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

    workdir = parse_path(args.workdir)
    if not (workdir / STUDY).exists():
        check_exists(args.settings.pretrain.data.dir)
        check_exists(args.settings.finetune.data.dir)
    from tlc_jax.studies.comparison import study  # imports jax: not needed for --help

    study(args.settings, workdir)


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
