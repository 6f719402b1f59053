"""What a study has left to do, predicted before anything is done: items, training time, disk.

Training seconds are those of budgets; a training that is counted in updates is predicted from the finished
ones of its size, and a round of recovery, which may end early, from the epochs of the run that is pruned.
Evaluation, compilation and compression come on top: only measuring them would tell.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from tlc_jax.checks.resources import parameters
from tlc_jax.config import Config
from tlc_jax.config.marks import COOLDOWN, parse_mark
from tlc_jax.config.study_options import StudyConfig
from tlc_jax.core.errors import UserError
from tlc_jax.core.progress import duration
from tlc_jax.runs.named_begin import parse_init_from
from tlc_jax.storage.paths import AnyPath
from tlc_jax.studies.failed_items import failed_items, failures
from tlc_jax.studies.item_store import ItemStore, Row
from tlc_jax.studies.items import Item, distillation_of, items_of
from tlc_jax.studies.measured import grouped
from tlc_jax.studies.pretrained_item import given_of
from tlc_jax.studies.same_data import SOURCES, SameData
from tlc_jax.studies.study_record import joined_config

_STATE = 12  # bytes of a parameter in a checkpoint: itself and two moments, all float32
_TRAINS_NOTHING = ("pretrained", "timing", "memory", "compress", "compress_student", "errors")
_SAME = ("size", "variant", "combination")  # trainings that agree in these take the same time
_STAGES = {
    "pretrained": "checkpoints that are given",
    "timing": "timings of an update",
    "memory": "memory of an update",
    "train": "trainings",
    "branch": "branches",
    "finetune": "finetunings",
    "recover": "rounds of recovery",
    "compress": "compressed models",
    "distil": "distilled models",
    "compress_student": "compressed distilled models",
    "errors": "errors of weights",
}


@dataclass(frozen=True)
class Prediction:
    """The items of a stage; seconds and bytes are those of the items that are not finished. None: nothing
    finished yet says how long they take. `meanwhile` are bytes that one process needs before it removes what
    nothing needs any more."""

    items: int
    finished: int
    seconds: float | None
    bytes: float
    meanwhile: float = 0.0


def dry_run(config: StudyConfig, workdir: AnyPath, console: Console) -> None:
    """Print what `study` would do, and do nothing of it. UserError where it would refuse its folder."""
    config = joined_config(config, workdir, SameData(workdir / SOURCES))
    store = ItemStore(workdir)
    stages, failed = predict(config, store), failed_items(store)
    table = Table(title=f"{workdir}: nothing is done, nothing is written")
    for name, justify in (("", "left"), ("items", "right"), ("finished", "right")):
        table.add_column(name, justify=justify)  # pyright: ignore[reportArgumentType]
    table.add_column("training time left", justify="right")
    table.add_column("disk", justify="right")
    for stage, each in stages.items():
        time = "not known yet" if each.seconds is None else duration(each.seconds) if each.seconds else ""
        disk = _size(each.bytes) if each.bytes else ""
        finished = f"{each.finished:,}" + (f", {failed[stage]:,} failed" if failed[stage] else "")
        table.add_row(_STAGES[stage], f"{each.items:,}", finished, time, disk)
    console.print(table)
    for sentence in failures(store):
        console.print(sentence)
    seconds = _sum(each.seconds for each in stages.values())
    least = "at least " if any(each.seconds is None for each in stages.values()) else ""
    console.print(
        f"{least}{duration(seconds)} of training in one process, less with several workers; evaluation, "
        "compilation and compression come on top. Checkpoints that stay take at most "
        f"{_size(_sum(each.bytes for each in stages.values()))}{_more(stages)}."
    )


def _more(stages: Mapping[str, Prediction]) -> str:
    most = max((each.meanwhile for each in stages.values()), default=0.0)
    return f", and up to {_size(most)} more in each process until others are removed" if most else ""


def _size(size: float) -> str:
    return f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:,.1f} MB"


def predict(config: StudyConfig, store: ItemStore) -> dict[str, Prediction]:
    """By stage, of those that the study has."""
    sizes, items, finished = _Sizes(config), items_of(config), store.finished()
    trained = [*store.rows(stage="train", last=True), *_ends(store.rows(stage="finetune"))]
    known = {model.key: model.number("training_seconds") for model in grouped(trained, _SAME)}
    known |= _of_epochs(store)
    predictions = {}
    for stage in dict.fromkeys(item.stage for item in items):
        of_stage = [item for item in items if item.stage == stage]
        left = [item for item in of_stage if item.name not in finished]
        seconds = [_seconds(item, config, known) for item in left]
        predictions[stage] = Prediction(
            items=_done(of_stage, config),
            finished=len(of_stage) - len(left),
            seconds=None if None in seconds else _sum(seconds),
            bytes=sizes.kept(left),
            meanwhile=max(map(sizes.removed_later, left), default=0.0),
        )
    return predictions


def _done(items: list[Item], config: StudyConfig) -> int:
    """How many of the items of a stage are done in the end: those of a search's models belong to each
    combination, and one combination is chosen."""
    searched = len(items) if items[0].stage != "finetune" and "combination" in items[0].fields else 0
    return len(items) - searched + searched // _tried(config)


def _ends(rows: Iterable[Row]) -> list[Row]:
    """The row of the end of each run, which may keep an earlier evaluation."""
    ends: dict[object, Row] = {}
    for row in rows:
        before = ends.setdefault(row["item"], row)
        if row["training_seconds"] > before["training_seconds"]:
            ends[row["item"]] = row
    return [*ends.values()]


def _of_epochs(store: ItemStore) -> dict[tuple[object, ...], float]:
    """Training seconds of an epoch of finished runs, by 'epoch' and what they agree in."""
    rows = [row for row in store.rows(last=True) if row.get("epoch") and "training_seconds" in row]
    return {
        ("epoch", *runs.key): runs.number("training_seconds") / runs.number("epoch")
        for runs in grouped(rows, _SAME)
    }


def _sum(values: Iterable[float | None]) -> float:
    return sum(value for value in values if value is not None)


def _seconds(item: Item, config: StudyConfig, known: dict[tuple[object, ...], float]) -> float | None:
    """Training seconds of an item, at most; 0 of one that trains nothing. `known`: those of finished
    trainings and finetunings."""
    if item.stage in _TRAINS_NOTHING:
        return 0.0
    fields = item.fields
    if item.stage == "recover":
        assert config.recovery is not None
        epoch = known.get(("epoch", *(fields.get(name) for name in _SAME)))
        return epoch and config.recovery.max_epochs * epoch / _tried(config)
    if item.stage == "finetune":
        finetuning = _finetuning(item, config)
        return finetuning.budget.training_seconds or known.get(tuple(fields[name] for name in _SAME))
    if item.stage == "distil":
        return config.student_of(distillation_of(item)).budget.training_seconds
    run = config.train_of(str(fields["size"]), str(fields["variant"]))
    if (seconds := run.budget.training_seconds) is None:
        trunk = known.get((fields["size"], fields["variant"], None))
        if trunk is None or item.stage == "train":
            return trunk
        seconds = trunk / run.ends_at
    if item.stage == "train":
        return run.ends_at * seconds
    return COOLDOWN * (parse_mark(str(fields["mark"])).share or 1.0) * seconds


def _tried(config: StudyConfig) -> int:
    """The combinations of the search, of which one is pruned in rounds."""
    return max(1, len(_finetunings(config)))


def _finetuning(item: Item, config: StudyConfig) -> Config:
    seeds = _finetunings(config)[str(item.fields["combination"])]
    return seeds[f"seed{item.fields['finetuning_seed']}"]


@functools.lru_cache(maxsize=1)
def _finetunings(config: StudyConfig) -> dict[str, dict[str, Config]]:
    """Made once: items of a search are many."""
    return config.finetunings()


class _Sizes:
    """Bytes of the checkpoints of each run; models with the same shape are counted once."""

    def __init__(self, config: StudyConfig):
        self._config = config
        self._parameters: dict[tuple[object, ...], int] = {}

    def kept(self, left: Iterable[Item]) -> float:
        """At most: of a search, the checkpoints of one combination."""
        seeds, total = Counter[tuple[str, ...]](), 0.0
        for item in left:
            if item.stage == "finetune":
                seeds[item.needs] += 1
                if seeds[item.needs] > self._seeds:
                    continue
            total += self._checkpoints(item)
        return total

    def removed_later(self, item: Item) -> float:
        """Beside those that are kept (unneeded_checkpoints.py): of a search the checkpoints of one more
        combination, of a trunk those of its marks."""
        if item.stage == "finetune" and len(_finetunings(self._config)) > 1:
            return self._seeds * self._checkpoints(item)
        if item.stage == "train" and self._config.branches:
            config = self._config.train_of(str(item.fields["size"]), str(item.fields["variant"]))
            return _STATE * self._count(config) * sum(mark.share is not None for mark in config.kept_marks)
        return 0.0

    @property
    def _seeds(self) -> int:
        return len(next(iter(_finetunings(self._config).values())))

    def _checkpoints(self, item: Item) -> float:
        """At most: the newest ones, those at marks, and the best."""
        if item.stage in _TRAINS_NOTHING:
            return 0.0
        config = self._config_of(item)
        kept = config.checkpoint.keep if config.checkpoint.every_steps else 1
        if item.stage in ("train", "finetune"):
            trunk = item.stage == "train" and self._config.branches
            kept += sum(not (trunk and mark.share) for mark in config.kept_marks)
        best = config.checkpoint.best or item.stage == "recover"
        share = 1 / _tried(self._config) if item.stage == "recover" else 1.0
        return share * _STATE * self._count(config) * (kept + best)

    def _config_of(self, item: Item) -> Config:
        """With the model of an item. That of a checkpoint which is no longer there is not known."""
        if given := given_of(item, self._config):
            finetuning = _finetuning(item, self._config)
            with contextlib.suppress(UserError):
                finetuning = parse_init_from(given.reference).resolve(finetuning)
            return finetuning
        config = self._config.train_of(str(item.fields["size"]), str(item.fields["variant"]))
        return self._finetuned(item, config) if "combination" in item.fields else config

    def _finetuned(self, item: Item, trained: Config) -> Config:
        try:
            return dataclasses.replace(_finetuning(item, self._config), model=trained.model)
        except ValueError as error:
            raise UserError(f"finetune does not go with {item.fields['size']}: {error}") from error

    def _count(self, config: Config) -> int:
        key = (config.model, type(config.task))
        if key not in self._parameters:
            self._parameters[key] = parameters(config)
        return self._parameters[key]
