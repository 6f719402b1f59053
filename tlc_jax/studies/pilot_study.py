"""The study that a plan trains as its pilot, and the training that it ends in."""

from __future__ import annotations

import dataclasses

from tlc_jax.config import BudgetConfig, Config, StudyConfig
from tlc_jax.config.plan_options import FEWEST_SIZES, PILOT_MARKS, PILOT_SHARE
from tlc_jax.core.errors import UserError

_WARMUP = 0.05  # of a pilot's budget, at most: its first branch ends at an eighth
_COMPRESSED_AT = ("1/4", "1")
_EVALUATIONS = 10
_SAVED_EVERY = 500


def pilot_study(config: StudyConfig, minutes: float) -> StudyConfig:
    """A study of all sizes that trains for so many minutes altogether, in the unit of `config`: trunks with
    branches, each compressed at two marks. UserError for fewer than three sizes."""
    if len(config.sizes) < FEWEST_SIZES:
        raise UserError(
            f"a pilot needs {FEWEST_SIZES} sizes at least, and there is {', '.join(config.sizes)}: give "
            "--sizes, such as --sizes 1x32 2x64 2x128"
        )
    trainings = len(config.sizes) * len(config.training_seeds)
    trunk = as_trunk(config.train, 60 * minutes / (trainings * PILOT_SHARE))
    checkpoint = dataclasses.replace(trunk.checkpoint, marks=",".join(PILOT_MARKS))
    return StudyConfig(
        train=dataclasses.replace(trunk, checkpoint=checkpoint),
        sizes=config.sizes,
        seeds=config.seeds,
        rate_scaling=config.rate_scaling,
        bits=config.bits,
        sparsities=config.sparsities,
        compressed_at=_COMPRESSED_AT,
        compression=config.compression,
        counted_in=config.counted_in,
    )


def as_trunk(train: Config, seconds: float) -> Config:
    """The training with a stable rate and this budget in seconds, without marks. UserError where its schedule
    has no such form."""
    schedule = train.schedule
    if schedule.noam_steps is not None:
        raise UserError(
            "schedule.noam_steps has no stable rate that branches could leave from: give a config with "
            "schedule.warmup_steps in its place, such as study_translation"
        )
    trunk = dataclasses.replace(
        schedule, follows="training_seconds", cooldown=0.0, warmup=min(schedule.warmup, _WARMUP)
    )
    return dataclasses.replace(
        train,
        schedule=trunk,
        budget=BudgetConfig(training_seconds=seconds),
        checkpoint=dataclasses.replace(train.checkpoint, marks=""),
        evaluation=dataclasses.replace(train.evaluation, stop_at=None),
    )


def planned_training(config: StudyConfig, size: str, seconds: float) -> Config:
    """The training of a size for the planned time, as a branch that ends there has it. It is evaluated and
    saved on the way where the config does neither."""
    planned = as_trunk(config.train_of(size), seconds).finished_at(1.0)
    evaluation, checkpoint = planned.evaluation, planned.checkpoint
    if evaluation.every_steps is None and evaluation.per_run is None:
        evaluation = dataclasses.replace(evaluation, per_run=_EVALUATIONS)
    if checkpoint.every_steps is None:
        checkpoint = dataclasses.replace(checkpoint, every_steps=_SAVED_EVERY)
    return dataclasses.replace(planned, evaluation=evaluation, checkpoint=checkpoint)
