"""How a run begins: afresh, from another run's parameters, as a branch of a trunk, or with pruned weights.

Each way says which config it gives, whose prepared data and metrics the run continues, where its first state
comes from, and how environment.json names it. Nothing else asks which way it is. begin_from_folder.py has one
more: from a model of Hugging Face's transformers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import jax

from tlc_jax.config import Config, MeshConfig, TransformerConfig
from tlc_jax.config.marks import Mark, branch_point
from tlc_jax.config.renamed import dropped
from tlc_jax.core.errors import UserError
from tlc_jax.core.stacked import Tensors
from tlc_jax.core.tree import Params
from tlc_jax.runs.checkpoint import Restored, restore_state, whole_steps
from tlc_jax.runs.load import check_saved, folder_of, load_model
from tlc_jax.storage.paths import AnyPath
from tlc_jax.storage.run_directory import RunDir
from tlc_jax.training.state import TrainState, pruned_state

Say = Callable[[str], None]


@dataclass(frozen=True)
class Begin:
    """What a run asks of the way it begins. The defaults are those of a run that begins afresh."""

    data_from: RunDir | None = dataclasses.field(default=None, kw_only=True)
    """The run whose prepared data are copied; None: they are prepared from their source."""
    resolved: bool = dataclasses.field(default=False, kw_only=True)
    """Whether the config needs no `resolve` any more: it is that of a run that has begun so."""
    pretrained: ClassVar[bool] = False
    """Whether it brings a trained model and its tokenizer, which is then used as it is, lossless or not."""

    def previous_metrics(self) -> AnyPath | None:
        """The metrics file whose lines the run continues; None where it has only its own."""
        return None

    def pruned(self) -> Tensors:
        """Masks by tensor of the weights that stay zero."""
        return {}

    def record(self) -> dict[str, str | None]:
        """What environment.json says of it."""
        return {"init_from": None, "branch_from": None}

    def resolve(self, config: Config) -> Config:
        """The config of the run, of the one that was asked for. UserError where the run cannot begin so."""
        return config

    def check(self) -> None:
        """UserError where a new run cannot begin so yet."""

    def initial(
        self, abstract: TrainState, mesh: MeshConfig, new: Callable[[], TrainState], say: Say
    ) -> Restored:
        """The first state, with the shapes and shardings of `abstract`, which is sharded over `mesh`; `new`
        initializes one from the seed. `say` is called with the sentences that a person should read."""
        return Restored(0, new())


@dataclass(frozen=True)
class Fresh(Begin):
    """New parameters from the seed of the config."""


@dataclass(frozen=True)
class InitFrom(Begin):
    """The model, the tokenizer and the parameters of another run, of one of its marks, of the mean of its
    newest checkpoints, or of an artifact."""

    reference: str
    pretrained: ClassVar[bool] = True

    def record(self) -> dict[str, str | None]:
        return {"init_from": self.reference, "branch_from": None}

    def resolve(self, config: Config) -> Config:
        source, _ = folder_of(self.reference)
        return with_model(config, source.read_config().model, source.tokenizer, self.reference)

    def check(self) -> None:
        check_saved(self.reference)

    def weights(self, mesh: MeshConfig, say: Say) -> Params:
        """All parameters of the model that is named."""
        return load_model(self.reference, mesh, warn=say).params

    def initial(
        self, abstract: TrainState, mesh: MeshConfig, new: Callable[[], TrainState], say: Say
    ) -> Restored:
        """Takes what both models have in the same shape: the encoder always, and a head of the same kind. A
        head of another task stays new."""
        model = load_model(self.reference, mesh, warn=say)
        state, _ = with_parts(new(), model.params, self.reference)
        say(f"parameters from {self.reference}, step {model.step:,}")
        return Restored(0, state)


@dataclass(frozen=True)
class Branch(Begin):
    """The trunk's state, config, data and metrics, to be finished at one of its marks.

    A trunk's learning rate never falls (`schedule.cooldown` 0), so none of its marks is a finished model, and
    points of one long decay would bias every comparison of budgets. The branch leaves the trunk at 80 % of
    the mark's budget, and its rate falls to zero over the rest: it ends as a run with that budget would have.
    """

    trunk: RunDir
    mark: Mark
    data_from: RunDir = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "data_from", self.trunk)

    def previous_metrics(self) -> AnyPath:
        return self.trunk.metrics

    def record(self) -> dict[str, str | None]:
        return {"init_from": None, "branch_from": f"{self.trunk.root}@{self.mark.name}"}

    def resolve(self, config: Config) -> Config:
        """The trunk's config, with the mark's budget and a cooldown at its end; `config` has no say."""
        trunk = self.trunk.read_config()
        if trunk.schedule.cooldown != 0:
            raise UserError(
                f"{self.trunk.root} is no trunk: its schedule.cooldown is {trunk.schedule.cooldown}, not 0, "
                "so its marks are points of one long decay"
            )
        if self.mark not in trunk.kept_marks:
            raise UserError(
                f"{self.trunk.root} has no mark {self.mark.name}: its checkpoint.marks are "
                f"{trunk.checkpoint.marks or 'none'}"
            )
        assert self.mark.share is not None
        return trunk.finished_at(self.mark.share)

    def check(self) -> None:
        point = branch_point(self.mark).name
        if not whole_steps(self.trunk.checkpoints, point):
            raise UserError(
                f"{self.trunk.root} holds no checkpoint {point!r}, from which the branch begins: resume "
                "it until it gets there, or give an earlier mark"
            )

    def initial(
        self, abstract: TrainState, mesh: MeshConfig, new: Callable[[], TrainState], say: Say
    ) -> Restored:
        point = branch_point(self.mark).name
        restored = restore_state(self.trunk.checkpoints, abstract, point)
        assert restored is not None, "check() has seen it"
        if sentence := dropped(self.trunk.read_document()):
            say(f"{self.trunk.config}: {sentence}")
        say(f"{point} of {self.trunk.root}, step {restored.step:,}")
        return restored


@dataclass(frozen=True)
class Pruned(Begin):
    """Given parameters; their weights that `masks` prune are zero and stay zero."""

    params: Params
    masks: Tensors

    def pruned(self) -> Tensors:
        return self.masks

    def initial(
        self, abstract: TrainState, mesh: MeshConfig, new: Callable[[], TrainState], say: Say
    ) -> Restored:
        return Restored(0, pruned_state(new(), self.params, self.masks))


def with_model(config: Config, model: TransformerConfig, tokenizer: AnyPath, reference: str) -> Config:
    """The config with the model and the tokenizer that `--init-from` names. UserError where the rest of the
    config does not go with them."""
    data = dataclasses.replace(config.data, tokenizer=str(tokenizer))
    if model.longest_input is not None and data.sequence_length > model.longest_input:
        raise UserError(
            f"data.sequence_length is {data.sequence_length} but the model of {reference} has "
            f"{model.longest_input} positions: set --data.sequence-length {model.longest_input}"
        )
    try:
        return dataclasses.replace(config, model=model, data=data)
    except ValueError as error:
        raise UserError(f"--init-from {reference} does not go with this config: {error}") from error


def with_parts(state: TrainState, params: Params, reference: str) -> tuple[TrainState, tuple[str, ...]]:
    """The state with those parts of `params`, such as the encoder or a head, that it has in the same shape,
    and the names of these parts. UserError where the encoder is not one of them."""
    shapes = {name: jax.tree.map(lambda x: x.shape, part) for name, part in state.params.items()}
    taken = {
        name: jax.tree.map(lambda x, like: jax.device_put(x, like.sharding), part, state.params[name])
        for name, part in params.items()
        if name in shapes and jax.tree.map(lambda x: x.shape, part) == shapes[name]
    }
    if "encoder" not in taken:
        raise UserError(f"the encoder of {reference} does not have the shape that this run needs")
    return dataclasses.replace(state, params={**state.params, **taken}), tuple(taken)
