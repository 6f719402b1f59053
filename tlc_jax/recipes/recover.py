"""Iterative pruning with recovery (paper 4.3): prune to a level, finetune until the model is as good as
before, keep the best evaluation, and repeat at the next level.

Each round is a run directory of its own, so that it can be interrupted, resumed, evaluated and compressed
like any other run; its pruned weights stay zero, and so do those of the round before."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Protocol, cast

from rich.console import Console

from tlc_jax.compression.pipeline import make_plan
from tlc_jax.compression.steps import Needs, Recipe, Step
from tlc_jax.config import CompressionAwareConfig, Config, DistilConfig
from tlc_jax.config.compression import RecoveryConfig
from tlc_jax.core.errors import UserError
from tlc_jax.core.stacked import split
from tlc_jax.recipes.calibration import calibrate
from tlc_jax.recipes.compressed_model import shrunk
from tlc_jax.recipes.finished_round import Round, finished_round
from tlc_jax.recipes.round_training import aware_of
from tlc_jax.recipes.tuning_evaluator import TuningEvaluator, evaluator_of
from tlc_jax.runs.begin import Pruned
from tlc_jax.runs.load import TrainedModel, load_model
from tlc_jax.runs.train_run import train_run
from tlc_jax.storage.lock import locked
from tlc_jax.storage.paths import AnyPath, make_folder
from tlc_jax.training.schedule import noam_rate


class InRounds(Protocol):
    """A step that needs training: it prunes in rounds."""

    recovery: RecoveryConfig

    @property
    def levels(self) -> tuple[float | None, ...]:
        """The sparsity after each round; None where its training decides that."""
        ...

    def learnt(self) -> CompressionAwareConfig:
        """What the training of a round learns to prune."""
        ...

    def rounds(self) -> tuple[Any, ...]:
        """The step of each round, which has a `sparsity` and needs no training."""
        ...


def trains(recipe: Recipe) -> bool:
    """Whether a step of the recipe prunes in rounds."""
    return any(step.needs is Needs.TRAINING for step in recipe)


def without_training(recipe: Recipe) -> Recipe:
    """The recipe for the run of the last round."""
    return _of_round(recipe, -1)


def prune_in_rounds(
    reference: str, recipe: Recipe, workdir: AnyPath, console: Console
) -> tuple[str, list[Round]]:
    """Prune a run in the rounds of a recipe. Returns the reference of what the last round keeps, and all
    rounds. The same call resumes interrupted rounds and ends with the same weights."""
    rounds = open_rounds(reference, recipe, console)
    console.print(f"{rounds.evaluate.key} {rounds.dense:.4f} before pruning; target {rounds.target:.4f}")
    model, control, value, finished = rounds.model, rounds.model, rounds.dense, list[Round]()
    make_folder(workdir)
    with locked(workdir):
        for index, level in enumerate(rounds.levels):
            percent = _percent(level)
            model, pruned = rounds.prune(index, model, workdir / f"pruned-{percent}", console)
            if rounds.recovery.control:
                if steps := pruned.steps:
                    folder = workdir / f"control-{percent}"
                    control, trained = rounds.train_control(level, steps, control, folder, console)
                    value = trained.recovered
                pruned = dataclasses.replace(pruned, control=value)
            finished.append(pruned)
            console.print(str(pruned))
    return finished[-1].reference, finished


@dataclass(frozen=True)
class Rounds:
    """The rounds of a recipe, of which each needs only what the one before keeps: other processes may do
    others."""

    reference: str
    """Names `model`, the one before the first round."""
    model: TrainedModel
    recipe: Recipe
    recovery: RecoveryConfig
    evaluate: TuningEvaluator
    dense: float
    """The primary metric of `model` on the tuning set, and the one at which a round ends is `target`."""

    @property
    def levels(self) -> tuple[float | None, ...]:
        """The sparsity after each round; None where its training decides that."""
        return _in_rounds(self.recipe).levels

    @property
    def target(self) -> float:
        return self.evaluate.metric.share(self.dense, self.recovery.target)

    @property
    def distil(self) -> DistilConfig:
        """What a round learns beside the data: the predictions and hidden states of the model before the
        first round, or nothing."""
        options = self.recovery
        weights = options.distil_weight, options.distil_temperature, options.distil_hidden_weight
        distil = DistilConfig(self.reference, *weights)
        return distil if distil.learns else DistilConfig()

    def prune(
        self, index: int, before: TrainedModel, folder: AnyPath, console: Console
    ) -> tuple[TrainedModel, Round]:
        """Do one round, or resume it: `before` is what the round before it keeps. Returns the model that it
        keeps, and its result."""
        before = before.before_rounding()
        if index == 0:
            before = shrunk(before, self.recipe, console)
        level, recipe = self.levels[index], _of_round(self.recipe, index)
        inputs = calibrate(before, recipe, console)
        plan = make_plan(split(before.params), recipe, masks=before.masks, inputs=inputs)
        aware = aware_of(plan, _in_rounds(self.recipe).learnt(), self.recovery.quantization_aware)
        config = dataclasses.replace(self._config(before), distil=self.distil, compression_aware=aware)
        begin = Pruned(before.params, plan.masks, data_from=self.model.rundir)
        title = "softly pruned" if level is None else f"{_percent(level)} % pruned"
        train_run(config, folder, begin, console, title=title)
        return self._finished(level, folder, console)

    def train_control(
        self, level: float | None, steps: int, before: TrainedModel, folder: AnyPath, console: Console
    ) -> tuple[TrainedModel, Round]:
        """Train the dense model with the schedule and the batches of the round of a level, for as many
        updates as that had, or resume it: what the same time would be worth without pruning. It is evaluated
        as often, has no target, has no teacher (it would be the model itself), and keeps its best evaluation,
        too. `before` is what the control of the round before keeps."""
        config = self._config(before)
        # a limit in tokens ends the run at this update and leaves the schedule, which follows steps
        tokens = math.ceil((steps - 0.5) * self.evaluate.task.tokens_per_step)
        config = dataclasses.replace(
            config,
            budget=dataclasses.replace(config.budget, tokens=tokens),
            evaluation=dataclasses.replace(config.evaluation, stop_at=None),
        )
        begin = Pruned(before.params, before.masks, data_from=before.rundir)
        train_run(config, folder, begin, console, title=f"dense, as long as {_percent(level)} %")
        model, trained = self._finished(level, folder, console)
        if trained.steps != steps:
            raise UserError(
                f"{folder} is a control of {trained.steps:,} updates, and the round has {steps:,}: "
                "remove the folder"
            )
        return model, trained

    def _config(self, before: TrainedModel) -> Config:
        """The config of a round, with the shape of the model that it begins with."""
        steps = math.ceil(self.recovery.max_epochs / self.evaluate.task.epochs(1))
        config = _config_of_rounds(self.model, self.recovery, self.target, steps)
        return dataclasses.replace(config, model=before.config.model)

    def _finished(self, level: float | None, folder: AnyPath, console: Console) -> tuple[TrainedModel, Round]:
        return finished_round(level, folder, self.evaluate, console)


def open_rounds(reference: str, recipe: Recipe, console: Console) -> Rounds:
    """The rounds of a recipe for a run; evaluates the run."""
    recovery = _in_rounds(recipe).recovery
    # the search is for the last round, and rounds have the data of the run, with all of its tokens
    recipe = tuple(step for step in recipe if step.needs is not Needs.SEARCH and not step.reads_tokens)
    model = load_model(reference, warn=console.print)
    evaluate = evaluator_of(model)
    dense = evaluate(split(model.params))[evaluate.key]
    return Rounds(reference, model, recipe, recovery, evaluate, dense)


def _in_rounds(recipe: Recipe) -> InRounds:
    """The step of a recipe that prunes in rounds; UserError if there are several."""
    step, *more = (cast(InRounds, step) for step in recipe if step.needs is Needs.TRAINING)
    if more:
        raise UserError(f"{1 + len(more)} steps of the recipe prune in rounds: leave one of them")
    return step


def _of_round(recipe: Recipe, index: int) -> Recipe:
    """The recipe whose pruning is that of one round, at once; without the step where that prunes nothing."""
    steps = list[Step]()
    for step in recipe:
        if step.needs is not Needs.TRAINING:
            steps.append(step)
        elif (once := cast(InRounds, step).rounds()[index]).sparsity > 0:
            steps.append(once)
    return tuple(steps)


def _percent(level: float | None) -> str:
    """The end of the names of a round's folders."""
    return "soft" if level is None else f"{100 * level:g}"


def _config_of_rounds(model: TrainedModel, recovery: RecoveryConfig, target: float, steps: int) -> Config:
    """The run's config with a budget of `steps`, to stop at the target. The learning rate decays over these
    from its peak or, where the schedule has no end (`noam_steps`), from its last value."""
    config = model.config
    rate, noam = config.optimizer.learning_rate, config.schedule.noam_steps
    if noam is not None:
        rate = noam_rate(rate, noam, config.model.hidden_size, model.step)
    rate, every = recovery.learning_rate or rate, recovery.evaluate_every
    return dataclasses.replace(
        config,
        task=config.task.without_decoding(),
        optimizer=dataclasses.replace(config.optimizer, learning_rate=rate),
        schedule=dataclasses.replace(config.schedule, follows="steps", noam_steps=None),
        budget=dataclasses.replace(config.budget, steps=steps, training_seconds=None, tokens=None),
        evaluation=dataclasses.replace(config.evaluation, every_steps=every, per_run=None, stop_at=target),
        checkpoint=dataclasses.replace(config.checkpoint, marks="", best=True),
        distil=DistilConfig(),
        compression_aware=CompressionAwareConfig(),
    )
