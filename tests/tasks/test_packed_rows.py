"""A pair in a row with others has the loss, and gives the gradient, that it has in a row of its own."""

import dataclasses
import functools
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from tests.tasks.kinds import config_of
from tlc_jax.config import Config, EncoderDecoderConfig
from tlc_jax.core.vocabulary import TRANSLATION_PAD as PAD
from tlc_jax.models.encoder_decoder import apply_encoder_decoder, init_encoder_decoder
from tlc_jax.tasks.kinds import kind_of

ALL = slice  # the rows of a batch that the only process builds
MODEL = EncoderDecoderConfig(
    num_layers=1,
    hidden_size=16,
    head_size=8,
    vocab_size=300,
    dropout=0.0,
    attention_dropout=0.0,
    activation_dropout=0.0,
    compute_dtype="float64",
)


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> Config:
    return config_of("translation", tmp_path_factory.mktemp("pairs"))


@pytest.fixture(scope="module")
def tasks(config):
    """The same pairs, packed and one to a row."""
    built = {}
    for packing in (True, False):
        data = dataclasses.replace(config.data, packing=packing, train="one.tsv")
        each = dataclasses.replace(config, data=data, model=MODEL)
        kind = kind_of(each)
        built[packing] = kind.task(each, kind.prepare(each, Console(quiet=True)))
    return built[True], built[False]


def sentences(batch):
    """The pairs of a batch, as tuples of their ids, in the order of rows and segments."""
    found = []
    for row in range(len(batch["source"])):
        source, targets = batch["source"][row], batch["targets"][row]
        numbers = (source != PAD).astype(int), (targets != PAD).astype(int)
        if "source_segments" in batch:
            numbers = batch["source_segments"][row], batch["target_segments"][row]
        for number in range(1, numbers[1].max() + 1):
            found.append(
                (tuple(source[numbers[0] == number].tolist()), tuple(targets[numbers[1] == number].tolist()))
            )
    return found


def epoch(task):
    size = round(1 / task.epochs(1))
    return [task.train_batch(step, ALL) for step in range(size)]


def test_an_epoch_of_packed_rows_has_each_pair_once_in_one_shape(tasks) -> None:
    packed, single = (epoch(task) for task in tasks)
    assert len({tuple(batch["source"].shape) for batch in packed}) == 1
    assert len({tuple(batch["source"].shape) for batch in single}) > 1
    pairs = [Counter(pair for batch in batches for pair in sentences(batch)) for batches in (packed, single)]
    assert pairs[0] == pairs[1]
    assert max(len(sentences(batch)) / len(batch["source"]) for batch in packed) > 2


def new_params(seed: int):
    params = init_encoder_decoder(MODEL, jax.random.key(seed))
    return jax.tree.map(lambda x: x.astype(jnp.float64), params)


def test_logits_of_a_pair_do_not_depend_on_its_row(tasks) -> None:
    batch = tasks[0].train_batch(0, ALL)
    pairs, longest = sentences(batch), 40
    source, target = (
        np.array([pair[side] + (PAD,) * (longest - len(pair[side])) for pair in pairs]) for side in (0, 1)
    )
    with jax.enable_x64(True):
        params = new_params(0)
        packed = jax.jit(tasks[0].logits)(params, {k: jnp.asarray(v) for k, v in batch.items()})
        alone = jax.jit(functools.partial(apply_encoder_decoder, MODEL))(params, source, target)
    number = 0
    for row, segments in enumerate(batch["target_segments"]):
        for segment in range(1, segments.max() + 1):
            expected = alone[number, : len(pairs[number][1])]
            np.testing.assert_allclose(packed[row][segments == segment], expected, rtol=0, atol=1e-12)
            number += 1
    assert number == len(pairs) > 10


@pytest.mark.slow
def test_loss_and_gradient_of_an_epoch_are_those_of_single_pairs(tasks) -> None:
    with jax.enable_x64(True):
        params, totals = new_params(1), []
        for task in tasks:
            value = jax.jit(jax.value_and_grad(lambda p, b, task=task: task.loss(p, b, jax.random.key(0))[0]))
            results = [value(params, {k: jnp.asarray(v) for k, v in b.items()}) for b in epoch(task)]
            totals.append(jax.tree.map(lambda *x: sum(x), *results))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9), *totals)


def test_packed_batches_are_a_function_of_seed_and_step(tasks) -> None:
    task = tasks[0]
    late = task.train_batch(17, ALL)
    again = kind_of(task._config).task(task._config, task.packed).train_batch(17, ALL)
    for name in late:
        np.testing.assert_array_equal(late[name], again[name])
    whole, halves = (
        late["source"],
        [task.train_batch(17, half)["source"] for half in (first_half, second_half)],
    )
    np.testing.assert_array_equal(whole, np.concatenate(halves))


def first_half(size: int) -> slice:
    return slice(0, size // 2)


def second_half(size: int) -> slice:
    return slice(size // 2, size)


def test_sources_are_mixed_by_their_shares(config) -> None:
    """one.tsv=2,two.tsv.gz=1: two thirds of the pairs of an epoch are of the first."""
    kind = kind_of(config)
    task = kind.task(config, kind.prepare(config, Console(quiet=True)))
    first = task.packed.manifest["sources"][0]["pairs"]
    pairs = task.packed.pairs("train")
    of_first = {
        tuple(pairs.source_ids[a:b].tolist())
        for a, b in zip(pairs.source_offsets[:first], pairs.source_offsets[1:], strict=False)
    }
    seen = [source for batch in epoch(task) for source, _ in sentences(batch)]
    assert abs(sum(source in of_first for source in seen) / len(seen) - 2 / 3) < 0.03
