"""What training asks of an objective and a task, what the program asks of a kind of task, and the loss that
kinds share."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int
from rich.console import Console

from tlc_jax.config import Config
from tlc_jax.config.task import TaskConfig
from tlc_jax.core.errors import UserError
from tlc_jax.core.printable import counted
from tlc_jax.core.tree import Params
from tlc_jax.data import cache
from tlc_jax.data.cache import Prepared
from tlc_jax.data.tokenizer import Layout
from tlc_jax.models.family import ModelFamily
from tlc_jax.storage.paths import AnyPath
from tlc_jax.tasks.metric import ExampleScores, Metric

Batch = dict[str, jax.Array]
AbstractBatch = dict[str, jax.ShapeDtypeStruct]
RowsOf = Callable[[int], slice]
"""Which rows of a batch of this size a process builds (parallel/mesh.py: local_rows)."""
HostBatch = dict[str, np.ndarray]
Sums = dict[str, Float[Array, "..."]]
"""Sums over predictions, with their number under 'weight': divided once, when they are reported."""
HostSums = Mapping[str, Any]
"""Sums on the host: float64, scalars or (in evaluation) arrays."""


@runtime_checkable
class Objective(Protocol):
    """What a config computes from a batch, whatever the data. Losses are sums."""

    family: ModelFamily

    def init(self, key: jax.Array) -> Params:
        """New parameters."""
        ...

    def loss(
        self, params: Params, batch: Batch, dropout_key: jax.Array | None
    ) -> tuple[Float[Array, ""], Sums]:
        """(sum of losses in nats, sums to report), by default the cross-entropy of the predictions. With a
        dropout key it is a training loss, and the batch also holds what the schedule controls
        (training/schedule.py)."""
        logits = self.logits(params, batch, dropout_key)
        return self.loss_of_logits(logits, batch, training=dropout_key is not None)

    def loss_of_logits(
        self, logits: Float[Array, "*predictions classes"], batch: Batch, *, training: bool
    ) -> tuple[Float[Array, ""], Sums]:
        """What `loss` returns, from the logits of a batch; a kind with a training loss of its own overrides
        this, so that distillation has it too."""
        return prediction_loss(logits, batch)

    def logits(
        self, params: Params, batch: Batch, dropout_key: jax.Array | None = None
    ) -> Float[Array, "*predictions classes"]:
        """Logits of each prediction, whose weights are `batch["weights"]`."""
        ...

    def largest_batch(self) -> AbstractBatch:
        """The shapes of the batch that needs most memory; they follow from the config."""
        ...

    def update_flops(self, batch: AbstractBatch) -> float:
        """Floating-point operations of an update with such a batch (models/flops.py)."""
        ...

    def operations(self) -> dict[str, float]:
        """Floating-point operations of an update: `flops`, those of its matrix products (models/flops.py),
        and `electra_flops`, as the paper counts them (models/electra_flops.py); {} where updates differ."""
        return {}


@runtime_checkable
class Task(Objective, Protocol):
    """An objective on its data. Batches are pure functions of (seed, step)."""

    tokens_per_step: float
    """Tokens of one update without pads, on average over the updates."""

    primary_metric: Metric

    label_names: tuple[str, ...] = ()
    """The classes that a classification predicts."""

    def train_batch(self, step: int, rows: RowsOf) -> HostBatch:
        """This process's rows of the batch of `step`, counted from 0."""
        ...

    def sample_batches(self, rows: RowsOf) -> Iterator[HostBatch]:
        """One training batch of each shape, for the compiler."""
        ...

    def evaluation_sets(self) -> tuple[str, ...]:
        """Names of the sets that training evaluates on."""
        ...

    def reported_sets(self) -> tuple[str, ...]:
        """Names of further sets, on which nothing may be chosen: training never reads them."""
        return ()

    def unlabelled_sets(self) -> tuple[str, ...]:
        """Names of the sets that can only be predicted."""
        return ()

    def evaluation_size(self, name: str) -> int:
        """Number of examples of a set."""
        ...

    def evaluation_batches(self, name: str, batch_size: int, rows: RowsOf) -> Iterator[HostBatch]:
        """Every example of a set exactly once, in batches of `batch_size`; pads have weight 0."""
        ...

    def evaluation_examples(self, name: str, batch_size: int) -> Iterator[Int[np.ndarray, "batch"]]:
        """For each of the `evaluation_batches`, the index in the set of each row's example; -1 for a pad."""
        ...

    def evaluation_sums(self, params: Params, batch: Batch) -> Sums:
        """What `metrics` are computed from, summed over a batch; without dropout."""
        return self.loss(params, batch, None)[1]

    def metrics(self, sums: HostSums) -> dict[str, float]:
        """Named metrics of sums, `loss` among them; of evaluation sums also the primary metric."""
        ...

    def example_scores(self, params: Params, batch: Batch) -> ExampleScores:
        """The score of each row of an evaluation batch, for paired tests."""
        ...

    def decoded(self, params: Params, name: str) -> dict[str, float]:
        """Further metrics of a set while training, of texts that the model writes fast."""
        return {}

    def text_metrics(self, params: Params, name: str, console: Console) -> dict[str, Any]:
        """Further metrics of a set in the end, of texts that the model writes with a beam."""
        return {}

    def baselines(self) -> dict[str, float]:
        """`{'<set>/<metric>': value}` of models that know only counts."""
        return {}

    def facts(self) -> dict[str, str]:
        """What a person should know about the data before training, in at most three lines of a screen."""
        ...

    def notes(self) -> tuple[str, ...]:
        """Sentences about data that are not used, contradict each other or are too few."""
        return ()

    def epochs(self, step: int) -> float:
        """How often the training data have been seen after `step` steps."""
        ...


@runtime_checkable
class Source(Protocol):
    """What data are prepared from; the names of `files` do not depend on where they are."""

    @property
    def description(self) -> str: ...

    @property
    def files(self) -> Mapping[str, AnyPath]: ...


PreparedData = TypeVar("PreparedData", bound=Prepared)


class TaskKind(ABC, Generic[PreparedData]):
    """One kind of task: what is known of it without data, and how its data are made. `tasks/kinds.py` lists
    the kinds."""

    name: str
    config_type: type[TaskConfig]
    data_type: type[PreparedData]
    tokenizer_layout: Layout
    trains_tokenizer: bool = True
    """Whether a tokenizer is trained where `data.tokenizer` names none."""
    translates: bool = False
    """Whether a model writes a text for a text (`translate`)."""
    hub_task: str | None = None
    """What Hugging Face calls the task (https://huggingface.co/tasks); None where it has no name for it."""
    uses: tuple[str, ...] = ("evaluate . --data.dir DATA",)
    """Commands that use a model in the current folder, for its card."""
    python_use: str = 'print(model.evaluate("DATA"))'
    """The same in Python, of a `model` that is loaded (api.py)."""
    next_commands: tuple[tuple[str, ...], ...] = (
        ("evaluate", "{run}"),
        ("compress", "{run}", "--bits", "8", "--out", "{run}-8bits"),
    )
    """What may be done next with a finished run: commands and their options."""
    most_at_once: int = 1024
    """A `batch_size` that can be computed at once, whatever the model."""

    @abstractmethod
    def source(self, config: Config) -> Source:
        """What the data would be prepared from; UserError where it does not exist."""
        ...

    @abstractmethod
    def prepare(
        self,
        config: Config,
        console: Console,
        label_names: tuple[str, ...] | None = None,
        *,
        pretrained: bool = False,
    ) -> PreparedData:
        """The data of a run, from the cache if the same were prepared before. With the `label_names` of a
        model (none where it is no classifier): data to evaluate it on, or to predict. The tokenizer of a
        `pretrained` model, with which the run begins, is used as it is."""
        ...

    def open(self, config: Config, folder: AnyPath) -> PreparedData:
        """Prepared data in a folder, after checking every byte."""
        return self.data_type.open(cache.local_copy(folder, config.data.cache_dir))

    def data_in(self, config: Config, folder: str) -> Any:
        """The options of the data that a user names to evaluate a model on; `folder` is set by the caller."""
        return config.data

    def task_names(self, config: Config) -> tuple[str, ...]:
        """The names of the task in `evaluate --task`: that of the kind, and of its data set if it has one."""
        return (self.name,)

    def languages(self, config: Config) -> tuple[str, ...]:
        """ISO 639 codes of the languages of a model, as far as its config says them."""
        return ()

    def label_names(self, config: Config, folder: AnyPath | None) -> tuple[str, ...]:
        """The classes, from prepared data or, without `folder`, from the source; () for most kinds."""
        return ()

    def texts_per_example(self, folder: AnyPath) -> int | None:
        """Of a classification: 1, or 2 where each example is a pair of texts. None where prepared data do not
        say so, and for other kinds."""
        return None

    @abstractmethod
    def objective(self, config: Config, classes: int | None = None) -> Objective:
        """The objective without data. UserError where it needs the number of `classes`."""
        ...

    @abstractmethod
    def task(self, config: Config, data: PreparedData) -> Task:
        """The objective on its data."""
        ...

    def bounded(self, config: Config, examples: int) -> Config:
        """The config, which anybody may have written, with a batch that can be computed at once: where it
        asks for more than `most_at_once`, what so many examples fill, and at most that."""
        if config.batch_size <= self.most_at_once:
            return config
        size, devices = config.at_once, jax.device_count()
        if size > self.most_at_once:
            rows = min(1 << max(0, examples - 1).bit_length(), self.most_at_once)
            size = -(-rows // devices) * devices
        return dataclasses.replace(config, batch_size=size, micro_batch=None)


def check_fits(config: Config, data: Prepared) -> None:
    """UserError where prepared data are not for the config's model."""
    for name, wanted in (
        ("vocab_size", config.model.vocab_size),
        ("sequence_length", config.data.sequence_length),
    ):
        if (stored := data.manifest[name]) != wanted:
            raise UserError(
                f"{data.folder} was prepared with {name} {stored}, and the config has {wanted}: put the "
                "run's own data there"
            )


def share_of(config: Config) -> str:
    """'5 % of the data: ' where a config trains on a share of the data; else ''."""
    return "" if config.data_share == 1 else f"{100 * config.data_share:g} % of the data: "


def few(noun: str, use: str, count: int, enough: int, held_out: float) -> tuple[str, ...]:
    """A note where fewer than `enough` of a noun (example, document) are held out for a use: what a model
    reaches on so few says little about others."""
    if count >= enough:
        return ()
    return (
        f"only {counted(count, noun)} {'is' if count == 1 else 'are'} {use}, too few to judge a model by: "
        f"raise --data.held-out (now {held_out:g}) or give more data",
    )


def prediction_loss(
    logits: Float[Array, "*predictions classes"], batch: Batch
) -> tuple[Float[Array, ""], Sums]:
    """What `Objective.loss` returns: the summed cross-entropy in nats of the `targets` of a batch, each times
    its weight, and the number of correct predictions."""
    weights = batch["weights"]
    total = jnp.sum(weights * nats(logits, batch["targets"]))
    correct = jnp.sum(weights * is_right(jax.lax.stop_gradient(logits), batch["targets"]))
    return total, {"loss": total, "correct": correct, "weight": jnp.sum(weights)}


def nats(logits: Float[Array, "*shape classes"], targets: Int[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Cross-entropy of each target."""
    return jax.nn.logsumexp(logits, axis=-1) - at_targets(logits, targets)


def is_right(logits: Float[Array, "*shape classes"], targets: Int[Array, "*shape"]) -> Bool[Array, "*shape"]:
    """Whether the target's logit is larger than every other one: ties and NaN are not right."""
    # a maximum over the others, since an argmax over a vocabulary is seven times slower on a CPU
    classes = jax.lax.broadcasted_iota(jnp.int32, logits.shape, logits.ndim - 1)
    others = jnp.where(classes == targets[..., None], -jnp.inf, logits)
    return at_targets(logits, targets) > jnp.max(others, axis=-1)


def at_targets(logits: Float[Array, "*shape vocab"], targets: Int[Array, "*shape"]) -> Float[Array, "*shape"]:
    """logits[target]."""
    return jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
