"""Tasks on a share of their training data: which examples batches are made of."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from tests.tasks.kinds import config_of
from tlc_jax.config import ClassificationConfig, Config
from tlc_jax.tasks.base import Task
from tlc_jax.tasks.kinds import kind_of

KINDS = ("mlm", "packed", "unpacked")
Example = tuple[Any, ...]


@pytest.fixture(scope="module")
def configs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Config]:
    folder: Path = tmp_path_factory.mktemp("data")
    mlm, pairs = config_of("mlm", folder), config_of("translation", folder)
    unpacked = dataclasses.replace(pairs, data=dataclasses.replace(pairs.data, packing=False))
    return {"mlm": mlm, "packed": pairs, "unpacked": unpacked}


def task_of(config: Config, **fields: Any) -> Task:
    config = dataclasses.replace(config, **fields)
    kind = kind_of(config)
    return kind.task(config, kind.prepare(config, Console(quiet=True)))


def examples(batch: dict[str, np.ndarray]) -> list[Example]:
    """The rows of a batch before they were masked, or its pairs of sentences."""
    if "tokens" in batch:
        rows = batch["tokens"].copy()
        row, slot = np.nonzero(batch["weights"])
        rows[row, batch["positions"][row, slot]] = batch["targets"][row, slot]
        return [tuple(each) for each in rows.tolist()]
    pairs: list[Example] = []
    for row, (source, target) in enumerate(zip(batch["source"], batch["targets"], strict=True)):
        segments = (source != 0).astype(int), (target != 0).astype(int)
        if "source_segments" in batch:
            segments = batch["source_segments"][row], batch["target_segments"][row]
        for number in range(1, segments[1].max(initial=0) + 1):
            sides = zip((source, target), segments, strict=True)
            pairs.append(tuple(tuple(ids[of == number].tolist()) for ids, of in sides))
    return pairs


def seen(task: Task, epochs: float) -> Counter[Example]:
    """The examples of the batches of so many epochs, rounded up."""
    batches = [task.train_batch(step, slice) for step in range(int(np.ceil(epochs / task.epochs(1))))]
    return Counter(example for batch in batches for example in examples(batch))


@pytest.mark.parametrize("kind", KINDS)
def test_every_seed_trains_on_the_same_part_which_is_a_part_of_a_larger_one(
    configs: dict[str, Config], kind: str
) -> None:
    """Over eight epochs, in which every source of a mixture is passed over at least twice."""
    large = set(seen(task_of(configs[kind], data_share=0.4), 8))
    small = set(seen(task_of(configs[kind], data_share=0.1), 8))
    other_seed = set(seen(task_of(configs[kind], data_share=0.1, seed=5), 8))
    assert small == other_seed
    assert small < large
    if kind == "mlm":
        return  # documents are packed anew, into other rows
    everything = set(seen(task_of(configs[kind]), 8))
    assert large < everything
    assert len(small) == pytest.approx(0.1 * len(everything), rel=0.25)
    assert len(large) == pytest.approx(0.4 * len(everything), rel=0.1)


@pytest.mark.parametrize("kind", KINDS)
def test_epochs_are_those_of_the_part(configs: dict[str, Config], kind: str) -> None:
    whole, part = task_of(configs[kind]), task_of(configs[kind], data_share=0.5)
    assert part.epochs(1) == pytest.approx(2 * whole.epochs(1), rel=0.1)


def test_an_epoch_of_text_has_each_row_of_its_part_once(configs: dict[str, Config]) -> None:
    task = task_of(configs["mlm"], data_share=0.3, batch_size=1)
    assert set(seen(task, 1).values()) == {1}
    assert sum(seen(task, 1).values()) == round(1 / task.epochs(1))


def test_mixtures_keep_their_weights(configs: dict[str, Config]) -> None:
    """Pairs of the first file are twice as many as those of the second in an epoch, with any share."""
    config = configs["unpacked"]
    first = dataclasses.replace(config, data=dataclasses.replace(config.data, train="one.tsv"))
    of_first = set(_texts(task_of(first)))
    for share in (1.0, 0.3):
        task = task_of(config, data_share=share)
        counts = Counter(pair in of_first for pair in _texts(task, 6).elements())
        assert counts[True] / counts[False] == pytest.approx(2, rel=0.1)


def _texts(task: Any, epochs: float = 3) -> Counter[tuple[str, str]]:
    """The pairs that are trained on as text, since tokenizers differ."""
    tokenizer = task.packed.tokenizer()
    ids = seen(task, epochs)
    return Counter({tuple(map(tokenizer.decode, pair)): count for pair, count in ids.items()})


@pytest.mark.parametrize("kind", KINDS)
def test_the_gate_counts_what_is_trained_on(configs: dict[str, Config], kind: str) -> None:
    """Counts of less data predict worse, and are kept apart in the cache."""
    gates = [
        next(value for name, value in task_of(configs[kind], data_share=share).baselines().items())
        for share in (0.1, 1.0)
    ]
    assert gates[0] > gates[1]


def test_held_out_data_and_identity_stay(configs: dict[str, Config]) -> None:
    for config in configs.values():
        whole, part = task_of(config), task_of(config, data_share=0.1)
        for name in whole.evaluation_sets():
            assert part.evaluation_size(name) == whole.evaluation_size(name)
            sizes = (name, config.batch_size, slice)
            batches = [list(task.evaluation_batches(*sizes)) for task in (whole, part)]
            for one, other in zip(*batches, strict=True):
                assert all(np.array_equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("kind", KINDS)
def test_a_person_is_told_of_the_share(configs: dict[str, Config], kind: str) -> None:
    assert "5 % of the data" in " ".join(task_of(configs[kind], data_share=0.05).facts().values())


@pytest.mark.parametrize("share", [0.0, 1.1])
def test_a_share_is_above_0_and_at_most_1(configs: dict[str, Config], share: float) -> None:
    with pytest.raises(ValueError, match="data_share must be above 0 and at most 1"):
        dataclasses.replace(configs["mlm"], data_share=share)


def test_classification_has_a_number_of_examples(configs: dict[str, Config]) -> None:
    with pytest.raises(ValueError, match=r"give task\.max_examples"):
        dataclasses.replace(configs["mlm"], task=ClassificationConfig(), data_share=0.5)
