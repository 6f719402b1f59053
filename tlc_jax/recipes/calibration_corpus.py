"""What statistics of inputs are over: the training batches of a task, or the lines of a text that an encoder
reads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from tlc_jax.config import ModelConfig
from tlc_jax.core.errors import UserError
from tlc_jax.core.tree import Params
from tlc_jax.core.vocabulary import Roles
from tlc_jax.data.calibration_text import encoded_lines
from tlc_jax.data.tokenizer import encoder_tokenizer, trimmed_tokenizer
from tlc_jax.data.tokenizer_trimming import TrimmedVocabulary
from tlc_jax.models.encoder import apply_mlm, init_mlm
from tlc_jax.models.families import ENCODER, family_of
from tlc_jax.models.linear_inputs import InputRules
from tlc_jax.runs.load import TrainedModel
from tlc_jax.storage.paths import AnyPath
from tlc_jax.tasks.base import Batch, Task

ROWS = 32  # of a batch of text
_SHORTEST = 16  # tokens that a row is padded to; longer rows to powers of two
_HEAD = "mlm_head"


@dataclass(frozen=True)
class Corpus:
    """`compute` applies a model to a batch, and calls the matrices whose inputs are summed up; `unread` are
    paths of matrices whose inputs mean nothing there."""

    rules: InputRules
    config: Any
    """Of the model."""
    params: Params
    compute: Callable[[Params, Batch], Any]
    batches: Callable[[], Iterable[Batch]]
    unread: frozenset[str] = frozenset()


def training_corpus(task: Task, model: TrainedModel) -> Corpus | None:
    """The training batches of a task, at most those of one epoch; None where the model's family does not say
    what the inputs of its matrices are."""
    if (rules := task.family.input_rules) is None:
        return None
    rows = model.config.at_once

    def batches() -> Iterator[Batch]:
        step = 0
        while step == 0 or task.epochs(step) < 1:
            yield jax.device_put(task.train_batch(step, lambda size: slice(0, min(rows, size))))
            step += 1

    return Corpus(rules, model.config.model, model.params, task.logits, batches)


def text_corpus(model: TrainedModel, file: str) -> Corpus:
    """The lines of a file for the encoder of a model. UserError for another family."""
    if family_of(model.config.model) is not ENCODER:
        raise UserError(
            "--calibration-text has single texts, and a translation is calibrated on the pairs that it was "
            "trained on: omit it"
        )
    config = cast(ModelConfig, model.config.model)
    tokenizer, vocabulary = model.rundir.tokenizer, model.vocabulary
    return encoder_corpus(config, model.params, lambda: text_batches(tokenizer, config, file, vocabulary))


def encoder_corpus(config: ModelConfig, params: Params, batches: Callable[[], Iterable[Batch]]) -> Corpus:
    """Whole texts, without masks. The head of masked language modelling is computed at every token; where
    there is none, a new one stands in, which is not measured. Heads of other tasks are not computed."""
    rules = ENCODER.input_rules
    assert rules is not None
    unread, whole = frozenset[str](), _HEAD in params
    if not whole:
        shapes = jax.eval_shape(lambda key: init_mlm(config, key), jax.random.key(0))[_HEAD]
        params = {**params, _HEAD: jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)}
        unread = frozenset(("encoder/token_embedding", f"{_HEAD}/output_embedding", f"{_HEAD}/dense/kernel"))

    def compute(params: Params, batch: Batch) -> jax.Array:
        parts = {name: params[name] for name in ("encoder", _HEAD)}
        return apply_mlm(config, parts, batch["tokens"], batch["positions"][:, : None if whole else 1])

    return Corpus(rules, config, params, compute, batches, unread)


def text_batches(
    tokenizer: AnyPath, config: ModelConfig, file: str, vocabulary: TrimmedVocabulary | None = None
) -> Iterator[Batch]:
    """Batches of the lines of a file, each with the special tokens around it and cut at the longest input;
    rows of one batch are padded to one power of two. `vocabulary` is what is left of the tokenizer's."""
    whole, roles, _ = encoder_tokenizer(tokenizer, lossless=False, exact=False)
    if vocabulary is not None:
        whole = trimmed_tokenizer(vocabulary)
        roles = roles.renumbered(vocabulary.new_ids.tolist(), vocabulary.kept.tolist())
    room = config.max_positions - roles.one.size
    if roles.vocab_size > config.vocab_size or roles.pad != config.pad_id or room < 1:
        raise UserError(
            f"{tokenizer} is not the tokenizer of the model beside it, which has {config.vocab_size:,} "
            f"tokens and the pad {config.pad_id}: it has {roles.vocab_size:,} and the pad {roles.pad}"
        )
    rows = (roles.one.ids([ids[:room]]) for ids in encoded_lines(whole, roles, file))
    return _batches(rows, roles, config.max_positions)


def _batches(rows: Iterable[list[int]], roles: Roles, longest: int) -> Iterator[Batch]:
    """Full batches as they come, by length, and at the end the rest."""
    waiting: dict[int, list[list[int]]] = {}
    for row in rows:
        length = min(max(_SHORTEST, 1 << (len(row) - 1).bit_length()), longest)
        waiting.setdefault(length, []).append(row)
        if len(waiting[length]) == ROWS:
            yield _batch(waiting.pop(length), length, roles)
    for length, some in waiting.items():
        yield _batch(some, length, roles)


def _batch(rows: list[list[int]], length: int, roles: Roles) -> Batch:
    tokens = np.full((ROWS, length), roles.pad, np.int32)
    for i, row in enumerate(rows):
        tokens[i, : len(row)] = row
    positions = np.broadcast_to(np.arange(length, dtype=np.int32), tokens.shape)
    weights = (tokens != roles.pad).astype(np.float32)
    return cast(Batch, jax.device_put({"tokens": tokens, "positions": positions, "weights": weights}))
