"""How a run begins: afresh, from another run's parameters, as a branch of a trunk, or with pruned weights.

Each way says which config it gives, whose prepared data and metrics the run continues, where its first state
comes from, and how environment.json names it. Nothing else asks which way it is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import jax

from tlc_jax.config import Config, MeshConfig
from tlc_jax.config.marks import Mark, branch_point, parse_mark
from tlc_jax.config.renamed import dropped
from tlc_jax.core.errors import UserError
from tlc_jax.core.stacked import Tensors
from tlc_jax.core.tree import Params
from tlc_jax.runs.checkpoint import Restored, restore_state, whole_steps
from tlc_jax.runs.load import check_saved, folder_of, load_model
from tlc_jax.runs.starts import read_starts
from tlc_jax.storage.paths import AnyPath
from tlc_jax.storage.run_directory import RunDir, split_mark
from tlc_jax.training.state import TrainState, pruned_state

Say = Callable[[str], None]


@dataclass(frozen=True)
class Begin:
    """What a run asks of the way it begins. The defaults are those of a run that begins afresh."""

    data_from: RunDir | None = dataclasses.field(default=None, kw_only=True)
    """The run whose prepared data are copied; None: they are prepared from their source."""
    resolved: bool = dataclasses.field(default=False, kw_only=True)
    """Whether the config needs no `resolve` any more: it is that of a run that has begun so."""

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

    def record(self) -> dict[str, str | None]:
        return {"init_from": self.reference, "branch_from": None}

    def resolve(self, config: Config) -> Config:
        source, _ = folder_of(self.reference)
        model = source.read_config().model
        data = dataclasses.replace(config.data, tokenizer=str(source.tokenizer))
        if model.longest_input is not None and data.sequence_length > model.longest_input:
            raise UserError(
                f"data.sequence_length is {data.sequence_length} but the model of {source.root} has "
                f"{model.longest_input} positions: set --data.sequence-length {model.longest_input}"
            )
        try:
            return dataclasses.replace(config, model=model, data=data)
        except ValueError as error:
            raise UserError(f"--init-from {self.reference} does not go with this config: {error}") from error

    def check(self) -> None:
        check_saved(self.reference)

    def initial(
        self, abstract: TrainState, mesh: MeshConfig, new: Callable[[], TrainState], say: Say
    ) -> Restored:
        """Takes what both models have in the same shape: the encoder always, and a head of the same kind. A
        head of another task stays new."""
        model, state = load_model(self.reference, mesh, warn=say), new()
        shapes = {name: jax.tree.map(lambda x: x.shape, part) for name, part in state.params.items()}
        taken = {
            name: jax.tree.map(lambda x, like: jax.device_put(x, like.sharding), part, state.params[name])
            for name, part in model.params.items()
            if name in shapes and jax.tree.map(lambda x: x.shape, part) == shapes[name]
        }
        if "encoder" not in taken:
            raise UserError(f"the encoder of {self.reference} does not have the shape that this run needs")
        say(f"parameters from {self.reference}, step {model.step:,}")
        return Restored(0, dataclasses.replace(state, params={**state.params, **taken}))


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


def recorded_begin(rundir: RunDir) -> Begin:
    """How a run began that is resumed with its own config, as its environment.json says; UserError where it
    does not say."""
    starts = read_starts(rundir)
    if not starts:
        raise UserError(
            f"{rundir.environment} is missing, which says how the run began: restore it, or run the whole "
            "command again that began the run, with its --config"
        )
    begin: Begin = Fresh()
    if branch := starts[0].get("branch_from"):
        begin = _branch(branch)
    elif reference := starts[0].get("init_from"):
        begin = InitFrom(reference)
    return dataclasses.replace(begin, resolved=True)


def parse_branch(text: str) -> Branch:
    """The branch to RUN@MARK; UserError if the text is not of this form, or names no run."""
    branch = _branch(text)
    if not branch.trunk.config.is_file():
        root = branch.trunk.root
        raise UserError(f"--branch-from {text}: {root} is not a run directory: it has no config.json")
    return branch


def _branch(text: str) -> Branch:
    rundir, name = split_mark(text)
    if name is None:
        raise UserError(f"--branch-from {text} is no RUN@MARK, such as runs/trunk@1/4")
    try:
        mark = parse_mark(name)
    except ValueError as error:
        raise UserError(f"--branch-from {text}: {error}") from error
    if mark.share is None:
        raise UserError(f"--branch-from {text}: a branch is finished at a share of the budget, not at {name}")
    return Branch(rundir, mark)
