"""Which model and which recipe to choose for a time and a limit of bytes, in sentences.

At each time at which models of a study are finished, the candidates are its models as files. Where they were
compressed at another time only, what a compression costs there is added to what the model reaches: an
estimate, called so. The choice is made on the tuning set; its value is that on the reported one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tlc_jax.studies.as_many_bytes import frontier
from tlc_jax.studies.compressed_models import DENSE
from tlc_jax.studies.exhibits import equal_time
from tlc_jax.studies.item_store import ItemStore, Row
from tlc_jax.studies.measured import Measured, above_gate, metric_of, share
from tlc_jax.studies.model_files import (
    ModelFile,
    as_long,
    file_difference,
    file_rows,
    files_of,
    gated_files,
    judged,
)
from tlc_jax.studies.page.page_words import file_size, metric_words, recipe_of
from tlc_jax.studies.statistics import difference_interval, holm, interval, welch
from tlc_jax.tasks.metric import Metric


@dataclass(frozen=True, eq=False)  # compared by identity
class Candidate:
    """A file that can be chosen. `value` is on the set that choices are made on. Where the `file` was
    compressed at another time, `dense` is its model at this one, before compression."""

    file: ModelFile
    value: float
    dense: Measured | None = None

    @property
    def bytes(self) -> float:
        return self.file.bytes

    @property
    def recipe(self) -> str:
        return recipe_of(int(self.file.tuning.key[3]), self.file.amount)

    @property
    def estimated(self) -> bool:
        """Whether the compression was measured at another time only."""
        return self.dense is not None and not is_whole(self.file)

    @property
    def shown(self) -> tuple[float, float | None, float | None]:
        """(value, low, high) as it is reported."""
        if self.estimated:
            return self.value, None, None
        measured = self.dense or self.file.reported
        low, high = interval(measured.values) or (None, None)
        return measured.mean, low, high

    @property
    def shown_on(self) -> str:
        """The set of the reported value."""
        return str(self._compared.rows[0]["set"])

    def gate(self, metric: Metric) -> str | None:
        """The gate with its value where the file is no better, or is estimated to be."""
        row = self._compared.rows[0]
        if row.get("gate") is None or metric.better(self.shown[0], float(row["gate"])):
            return None
        return _gate_of(row)

    @property
    def _compared(self) -> Measured:
        return self.dense or self.file.reported


def is_whole(file: ModelFile) -> bool:
    """Whether a model is neither pruned nor quantized."""
    return file.tuning.key[3:] == (DENSE, 0.0, False, None)


@dataclass(frozen=True)
class Choice:
    """What is chosen for files of up to `limit` bytes, until the next choice, and the sentences about it."""

    limit: float
    model: str
    chosen: Candidate | None
    next: Candidate | None
    head: str
    value: str
    against: str


@dataclass(frozen=True)
class Time:
    """A time at which models are finished: the models before compression, and the files."""

    mark: str
    seconds: float | None
    dense: Sequence[Measured]
    files: Sequence[Candidate]
    metric: Metric
    """Of the files; of the models before compression where there are none."""

    @property
    def candidates(self) -> list[Candidate]:
        """The files that were trained no longer than this time, and on all data."""
        return [each for each in self.files if all(map(as_long, each.file.tuning.rows))]

    def best_files(self) -> list[Candidate]:
        """The candidates of which no smaller one is as good on the tuning set."""
        return frontier(self.candidates, self.metric, lambda each: each.value, lambda each: each.bytes)


def times_of(store: ItemStore) -> list[Time]:
    """The times of a study, in their order."""
    measured = equal_time.measurements(store)
    dense = equal_time.by_mark(measured)
    files: dict[str, list[ModelFile]] = {}
    for file in files_of(file_rows(store)):
        files.setdefault(str(file.tuning.key[2]), []).append(file)
    times = []
    for mark in sorted({*dense, *files}, key=share):
        models = dense.get(mark, [])
        if mark in files:
            candidates = [Candidate(file, file.tuning.mean) for file in files[mark]]
        else:
            candidates = _estimates(models, files, mark)
        rows = candidates[0].file.tuning.rows if candidates else models[0].rows
        seconds = max((model.number("training_seconds") for model in models), default=None)
        times.append(Time(mark, seconds, models, candidates, metric_of(rows[0])))
    return times


def _estimates(models: Sequence[Measured], files: dict[str, list[ModelFile]], mark: str) -> list[Candidate]:
    """Of models that were compressed at other times: of each what the nearest of them says."""
    candidates = list[Candidate]()
    if not files:
        return candidates
    nearest = min(files, key=lambda each: max(share(each) / share(mark), share(mark) / share(each)))
    dense = {f"{model.key[0]} {model.key[1]}".strip(): model for model in models}
    uncompressed = {file.size: file for file in files[nearest] if is_whole(file)}
    for file in files[nearest]:
        model, whole = dense.get(file.size), uncompressed.get(file.size)
        again = file.tuning.key[5] or file.tuning.key[6] is not None
        if model is None or whole is None or again or not _of_one_kind(model, file.tuning):
            continue
        candidates.append(Candidate(file, model.mean + file.tuning.mean - whole.tuning.mean, model))
    return candidates


def _of_one_kind(model: Measured, file: Measured) -> bool:
    one, other = model.rows[0], file.rows[0]
    return (one["metric"], one["set"]) == (other["metric"], other["set"])


def choices_of(time: Time) -> list[Choice]:
    """The choices at a time, in the order of the limits from which they hold; one without files where models
    were not compressed."""
    if not time.candidates:
        return [_of_dense(time)] if time.dense else []
    contests = _contests(time)
    pairs = [pair for _, pair in contests if pair[1] is not None and _testable(pair, time.metric)]
    tested = [file_difference(pair[0].file, pair[1].file) for pair in pairs if pair[1] is not None]
    examples = holm([each.examples_p for each in tested])
    trainings = holm([1.0 if each.seeds_p is None else each.seeds_p for each in tested])
    said = {
        id(pair): judged(*each)
        for pair, each in zip(pairs, zip(tested, examples, trainings, strict=True), strict=True)
    }
    return [_choice(limit, pair, said.get(id(pair)), time) for limit, pair in contests]


Pair = tuple[Candidate, Candidate | None]
"""A choice, and the best of another model."""


def _contests(time: Time) -> list[tuple[float, Pair]]:
    """For each limit from which the choice or the next is another one: the two."""
    sign = -1 if time.metric.higher_is_better else 1
    order = sorted(time.candidates, key=lambda each: (sign * each.value, each.bytes))
    contests: list[tuple[float, Pair]] = []
    for limit in sorted({each.bytes for each in order}):
        fitting = [each for each in order if each.bytes <= limit]
        others = (each for each in fitting if each.file.size != fitting[0].file.size)
        pair = fitting[0], next(others, None)
        if not contests or pair != contests[-1][1]:
            contests.append((limit, pair))
    return contests


def _testable(pair: Pair, metric: Metric) -> bool:
    """Whether both are measured, and better than their gate."""
    one, other = pair
    measured = other is not None and one.dense is None and other.dense is None
    return measured and not gated_files([one.file, other.file], metric)  # type: ignore[union-attr]


def _choice(limit: float, pair: Pair, said: str | None, time: Time) -> Choice:
    chosen, other = pair
    given = "checkpoint" in chosen.file.tuning.rows[0]
    head = f"{'finetune' if given else 'train'} {chosen.file.size} and {_kept(chosen)}."
    against = "" if other is None else _against(chosen, other, said, time)
    value = f"{_reached(chosen, time)}, {file_size(chosen.bytes)}"
    if gate := chosen.gate(time.metric):
        head, against = _none_passes(gate), "Train for longer, or allow larger files."
        value = f"The best is {chosen.file.size}, {chosen.recipe}: {value}"
    if chosen.estimated:
        value += ". Estimated: its value before compression, and what this compression cost at another time"
    elif chosen.shown[1] is None:
        value += "; of a single training, so without an interval"
    value += "."
    return Choice(limit, chosen.file.size, chosen, other, head, value, against)


def _against(chosen: Candidate, other: Candidate, said: str | None, time: Time) -> str:
    """The best file of another model, and what is known of the difference."""
    text = f"The best other model is {other.file.size}, {other.recipe}: {_reached(other, time)}"
    if said is not None:
        text += f". The first minus the second is {said}"
    elif gate := other.gate(time.metric):
        text += f". Not comparable yet: the {gate}"
    elif chosen.estimated or other.estimated:
        text += ". Not tested, since what compression costs was measured at another time only"
    elif chosen.dense is not None and other.dense is not None:
        text += f". The first minus the second is {_over_trainings(chosen.dense, other.dense)}"
    return f"{text}."


def _over_trainings(one: Measured, other: Measured) -> str:
    """The first minus the second, with its interval and test."""
    difference = f"{one.mean - other.mean:+.4f}"
    if min(len(one.values), len(other.values)) < 2:
        return f"{difference}, of a single training, so another may turn the order"
    covered = difference_interval(one.values, other.values)
    between = "" if covered is None else f" [{covered[0]:+.4f}, {covered[1]:+.4f}]"
    return f"{difference}{between}, p = {welch(one.values, other.values):.2g} over trainings, uncorrected"


def _gate_of(row: Row) -> str:
    return f"{row['gate_name']} reaches {float(row['gate']):.4f}"


def _none_passes(gate: str) -> str:
    return f"no model is good enough yet: the {gate}, and the best of them is no better."


def _kept(candidate: Candidate) -> str:
    bits, amount = int(candidate.file.tuning.key[3]), candidate.file.amount
    if is_whole(candidate.file):
        return "leave it uncompressed"
    return f"keep it at {bits} bits{f', {amount}' if amount else ''}"


def _reached(candidate: Candidate, time: Time) -> str:
    """The value with its interval, the metric and the set."""
    about = "about " if candidate.estimated else ""
    words = metric_words(time.metric.name)
    return f"{about}{_number(*candidate.shown)} {words} on {candidate.shown_on}"


def _number(value: float, low: float | None, high: float | None) -> str:
    return f"{value:.4f}" + ("" if low is None else f" [{low:.4f}, {high:.4f}]")


def _of_dense(time: Time) -> Choice:
    """The best model before compression, and the next."""
    sign = -1 if time.metric.higher_is_better else 1
    best, *others = sorted(time.dense, key=lambda model: sign * model.mean)
    words, on = metric_words(time.metric.name), best.rows[0]["set"]
    against = ""
    if others:
        against = f"Next is {name_of(others[0])}, {others[0]}. "
        if gated := above_gate(others[:1], time.metric):
            against += f"Not comparable yet: the {_gate_of(gated[0].rows[0])}."
        else:
            against += f"The first minus the second is {_over_trainings(best, others[0])}."
    name, alone = name_of(best), "; of a single training, so without an interval"
    alone = alone if len(best.values) == 1 else ""
    head, value = f"train {name}.", f"{best} {words} on {on}{alone}."
    if gated := above_gate([best], time.metric):
        head, against = _none_passes(_gate_of(gated[0].rows[0])), "Train for longer."
        value = f"The best is {name}: {value}"
    return Choice(0, name, None, None, head, value, against)


def name_of(model: Measured) -> str:
    """The size of a model with its variant."""
    return f"{model.key[0]} {model.key[1]}".strip()
