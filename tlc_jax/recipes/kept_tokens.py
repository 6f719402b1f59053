"""The tokens that a corpus uses, and the vocabulary that is left of a model's: the training data of its run,
or a text that the user names. Nothing that is reported or tuned on decides what stays."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Integer
from rich.console import Console

from tlc_jax.artifacts.artifact import is_artifact
from tlc_jax.core import stopping
from tlc_jax.core.errors import UserError
from tlc_jax.data.calibration_text import encoded_lines
from tlc_jax.data.text_ids import SpecialIds
from tlc_jax.data.tokenizer import ROBERTA, encoder_tokenizer, load_tokenizer
from tlc_jax.data.tokenizer_trimming import TrimmedVocabulary, trim_tokenizer
from tlc_jax.runs.load import TrainedModel
from tlc_jax.tasks.kinds import kind_of

_IDS = 1 << 22  # at a time
TRAIN = "train"


def trimmed_vocabulary(model: TrainedModel, text: str | None, console: Console) -> TrimmedVocabulary:
    """The vocabulary of the tokens of a file of text or, without one, of the run's training data; says how
    many tokens of the other sets are gone."""
    if model.vocabulary is not None:
        raise UserError(
            "the vocabulary of this model is trimmed already: leave one TrimVocabulary in the recipe"
        )
    path, rows, layout = (
        model.rundir.tokenizer,
        model.config.model.vocab_size,
        kind_of(model.config).tokenizer_layout,
    )
    special: SpecialIds = layout
    if layout is ROBERTA:
        tokenizer, special, _ = encoder_tokenizer(path, rows, lossless=False, exact=False)
    else:
        tokenizer = load_tokenizer(path, rows, layout)
    if text is not None:
        ids = encoded_lines(tokenizer, special, text)
        counts, corpus = _counts((np.array(line, np.int64) for line in ids), rows), text
    else:
        data = _data(model)
        counts, corpus = _counts(data.stored_ids(TRAIN), rows), "the training data"
    used = np.flatnonzero(counts).tolist()
    vocabulary = trim_tokenizer(tokenizer, used, {*special.controls, special.end}, special.unknown, rows)
    console.print(
        f"vocabulary: {len(vocabulary.kept):,} of {rows:,} tokens stay, of which {corpus} "
        f"{'uses' if text else 'use'} {len(used):,}"
    )
    return vocabulary


def unseen(model: TrainedModel, vocabulary: TrimmedVocabulary, name: str) -> tuple[int, int]:
    """(how many tokens of a set of the run's data are gone, all tokens of the set): here they are unknown,
    and the artifact's tokenizer makes smaller ones of their text."""
    kept, total = 0, 0
    for ids in _pieces(_data(model).stored_ids(name)):
        kept, total = kept + int(np.count_nonzero(vocabulary.is_kept(ids))), total + ids.size
    return total - kept, total


def _data(model: TrainedModel) -> Any:
    if is_artifact(model.rundir.root):
        raise UserError(
            f"{model.rundir.root} is an artifact and has no training data to count tokens of: give its run, "
            "or --calibration-text FILE"
        )
    return kind_of(model.config).open(model.config, model.rundir.data)


def _counts(arrays: Any, rows: int) -> Integer[np.ndarray, "rows"]:
    counts = np.zeros(rows, np.int64)
    for ids in _pieces(arrays):
        counts += np.bincount(ids, minlength=rows)
    return counts


def _pieces(arrays: Any) -> Iterator[Integer[np.ndarray, "ids"]]:
    """The ids a few millions at a time: arrays may be files."""
    for array in arrays:
        flat = array.reshape(-1)
        for start in range(0, flat.size, _IDS):
            stopping.check()
            yield np.asarray(flat[start : start + _IDS])
