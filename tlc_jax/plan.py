"""`python -m tlc_jax.plan --config C --workdir W --hours 2 --target-mb 8 --store S`: which size to train, and
how to compress it."""

from __future__ import annotations

import contextlib
import dataclasses
import sys

from tlc_jax.config import Config, StudyConfig
from tlc_jax.config.plan_options import PlanConfig
from tlc_jax.core import cli, command_line
from tlc_jax.core.config_document import load_config
from tlc_jax.core.entry_point import run_command
from tlc_jax.core.errors import UserError

EVERYDAY = (
    *("config", "workdir", "hours", "target_mb", "store", "pilot_minutes", "sizes", "bits", "sparsities"),
    *("device_file", "peak_tflops", "utilisation", "train.data.dir", "train.batch_size"),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan(PlanConfig):
    __doc__ = PlanConfig.__doc__
    config: str
    """The config document of a study, or of a training: how every size is trained. Its fields follow as
    options, --sizes among them: the sizes to choose from. Without it, the size of a training stands for all
    of the pilots."""
    settings: cli.Settings[StudyConfig]


def main(argv: list[str] | None = None) -> None:
    arguments = list(sys.argv[1:] if argv is None else argv)
    args = cli.parse(Plan, arguments, settings=_candidates(arguments), everyday=EVERYDAY)
    try:
        args.check()
    except ValueError as error:
        raise UserError(str(error)) from error
    from tlc_jax.studies.plan_command import plan  # imports jax: not needed for --help

    given = any(argument.partition("=")[0] == "--sizes" for argument in arguments)
    with command_line.options_below("train"):
        plan(args, args.settings, of_pilots=len(args.settings.sizes) == 1 and not given)


def _candidates(arguments: list[str]) -> StudyConfig | None:
    """The document of a study without sizes that it does not judge, or that of one training as a study of its
    size; None for another document."""
    document = command_line.option(arguments, "--config")
    if document is None:
        return None
    with contextlib.suppress(UserError):
        return dataclasses.replace(load_config(document, StudyConfig), oversized=())
    with contextlib.suppress(UserError):
        config = load_config(document, Config)
        return StudyConfig(train=config, sizes=(f"{config.model.num_layers}x{config.model.hidden_size}",))
    return None  # of which another sentence says what is wrong once it is loaded again


if __name__ == "__main__":
    run_command(main)
