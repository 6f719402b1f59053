"""Translates sentences: tokens, batches in few shapes, beam search, text."""

from __future__ import annotations

import functools
import itertools
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Int

from tlc_jax.config import EncoderDecoderConfig
from tlc_jax.core import stopping
from tlc_jax.core.errors import UserError
from tlc_jax.core.free_memory import free_memory
from tlc_jax.core.tree import Params
from tlc_jax.core.vocabulary import TRANSLATION_EOS as EOS
from tlc_jax.core.vocabulary import TRANSLATION_PAD as PAD
from tlc_jax.data.tokenizer import Tokenizer
from tlc_jax.models.beam_search import NEVER, Hypotheses, beam_search
from tlc_jax.models.decoding import Sentences, empty_cache, grown, prepare, reordered
from tlc_jax.parallel.mesh import local_rows, place, replicated
from tlc_jax.tasks.batch_shapes import FEW_ROWS, BatchShapes
from tlc_jax.tasks.long_sentences import pieces

EXTRA = 50  # tokens by which a translation may be longer than its source (Vaswani et al., 6.1)
_USUAL = 8  # tokens by which few are: the cache has room for these before it grows
ALPHA = 0.6
_OVERHEAD = 2.4  # memory by the compiler over that of the cache, at most (4 to 200 beams, width 64 to 256)
_TOKENS = 2048  # of the source of a batch, pads included
_MOST_BYTES = 4 << 30  # that a batch may need, if that much memory is free


@dataclass(frozen=True)
class Translated:
    """One hypothesis: its text, its score (log probability over length penalty), whether it ended with </s>,
    and in how many parts its sentence was translated."""

    text: str
    score: float
    ended: bool
    parts: int = 1


class Decoder:
    """Translates with a beam; compiles each shape once, for any parameters. A sentence of more than `longest`
    tokens, </s> included, is translated in parts."""

    def __init__(
        self,
        config: EncoderDecoderConfig,
        tokenizer: Tokenizer,
        mesh: Mesh,
        *,
        longest: int,
        beams: int = 4,
        alpha: float = ALPHA,
        best: int = 1,
    ):
        self._tokenizer, self._longest, self._mesh = tokenizer, longest, mesh
        self._bytes_of_row = functools.partial(bytes_of_row, config, beams)
        self._most_bytes = min(_MOST_BYTES, usable_memory() // 2) // self._at_once()
        self._search = jax.jit(
            # rows of a mesh stay where they are, and greedy search gains less than it takes to compile
            functools.partial(
                search, config, beams=beams, alpha=alpha, best=best, halve=mesh.size == 1 and beams > 1
            ),
            out_shardings=replicated(self._mesh),  # every process reads all
        )
        self._first, self._compiled = threading.Lock(), set[tuple[int, ...]]()
        self._shapes = BatchShapes(longest)

    def translate(
        self, params: Params, sentences: Sequence[str], advance: Callable[[int], None] = lambda count: None
    ) -> list[list[Translated]]:
        """The hypotheses of each sentence, best first; a sentence that was cut has one. A blank sentence
        becomes an empty one. `advance` is called with the number of further sentences that are done."""
        parts = [pieces(sentence, self._tokenizer, self._longest - 1) for sentence in sentences]
        last = [index == len(each) - 1 for each in parts for index in range(len(each))]
        hypotheses = iter(
            self._each(
                params,
                list(itertools.chain(*parts)),
                lambda done: advance(sum(last[i] for i in done)),
            )
        )
        whole = [[next(hypotheses) for _ in each] for each in parts]
        return [each[0] if len(each) == 1 else [_joined([best[0] for best in each])] for each in whole]

    def _each(
        self, params: Params, sentences: Sequence[str], done: Callable[[Sequence[int]], None]
    ) -> list[list[Translated]]:
        """Translate sentences that are short enough; `done` is called with the indices of those that are."""
        encodings = self._tokenizer.encode_batch_fast(list(sentences), add_special_tokens=False)
        # a single character may have more tokens than the longest sentence: a normalizer can spell it out
        ids = [encoding.ids[: self._longest - 1] for encoding in encodings]
        translations: list[list[Translated]] = [[Translated("", 0.0, True)] for _ in ids]
        order = [i for i, sentence in enumerate(sentences) if sentence.strip() and ids[i]]
        order.sort(key=lambda i: (-len(ids[i]), i))
        self._shapes.suit([len(ids[i]) + 1 for i in order])
        batches = []
        while order:  # the longest first
            rows, length = self._shape(len(order), len(ids[order[0]]) + 1)
            chosen = order[:rows]
            source = np.full((rows, length), PAD, np.int32)
            limits = np.zeros(rows, np.int32)
            for row, i in enumerate(chosen):
                source[row, : len(ids[i]) + 1] = [*ids[i], EOS]
                limits[row] = len(ids[i]) + 1 + EXTRA
            local = local_rows(self._mesh, rows)
            batches.append((chosen, {"source": source[local], "limits": limits[local]}))
            order = order[len(chosen) :]
        with ThreadPoolExecutor(self._at_once()) as pool:
            try:
                for chosen, best in pool.map(lambda batch: (batch[0], self._run(params, batch[1])), batches):
                    for row, i in enumerate(chosen):
                        translations[i] = self._texts(best, row)
                    done(chosen)
                    stopping.check()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        return translations

    def _shape(self, count: int, longest: int) -> tuple[int, int]:
        """Rows and length of the next batch, as many on each device. `count` sentences are left, of at most
        `longest` tokens."""
        most, length = self._shapes.rows_and_length(count, longest)
        devices = self._mesh.size
        rows = min(most, _TOKENS // length, self._most_bytes * devices // self._bytes_of_row(length))
        return -(-max(1, rows) // devices) * devices, length

    def _at_once(self) -> int:
        """Batches that run at the same time: two on a CPU, since the small operations of one leave a third of
        two cores idle."""
        return 2 if self._mesh.size == 1 and jax.default_backend() == "cpu" else 1

    def _run(self, params: Params, batch: dict[str, np.ndarray]) -> Hypotheses:
        placed, shape = place(self._mesh, batch), batch["source"].shape
        with self._first:  # two threads would compile the same program twice
            if shape not in self._compiled:
                hypotheses = jax.device_get(self._search(params, placed["source"], placed["limits"]))
                self._compiled.add(shape)
                return hypotheses
        return jax.device_get(self._search(params, placed["source"], placed["limits"]))

    def _texts(self, best: Hypotheses, row: int) -> list[Translated]:
        hypotheses = [
            Translated(
                self._tokenizer.decode([i for i in ids.tolist() if i not in (PAD, EOS)]),
                float(score),
                bool(ended),
            )
            for ids, score, ended in zip(best.tokens[row], best.scores[row], best.ended[row], strict=True)
            if score > NEVER / 2  # else there are fewer hypotheses than were asked for
        ]
        if not hypotheses:
            raise UserError(
                "the model gives a sentence no score that is a number: its weights are damaged, or its "
                "training diverged; use an earlier checkpoint"
            )
        return hypotheses


def _joined(parts: list[Translated]) -> Translated:
    text = " ".join(part.text.strip() for part in parts if part.text.strip())
    score, ended = sum(part.score for part in parts), all(part.ended for part in parts)
    return Translated(text, score, ended, len(parts))


def search(
    config: EncoderDecoderConfig,
    params: Params,
    source: Int[Array, "batch others"],
    limits: Int[Array, "batch"],
    *,
    beams: int,
    alpha: float,
    best: int | None = None,
    halve: bool = True,
) -> Hypotheses:
    """The `best` hypotheses (None: as many as `beams`) of padded sources, each of at most `limits` tokens.
    With `halve`, sentences that are left once half of them are done are computed alone, unless they are
    few."""
    length = source.shape[1] + EXTRA
    prepared = prepare(config, params, source, length)
    first = min(length, source.shape[1] + _USUAL)
    cache = empty_cache(config, prepared, beams, first)
    return beam_search(
        lambda batch, tokens, position: batch.step(config, prepared, tokens, position),
        Sentences(prepared.cross, prepared.visible, cache),
        limits,
        beams=beams,
        length=length,
        alpha=alpha,
        reorder=lambda batch, parents: batch.with_cache(reordered, parents),
        grow=lambda batch, length: batch.with_cache(grown, length),
        first=first,
        select=Sentences.rows if halve and len(source) > FEW_ROWS else None,
        best=best,
    )


def bytes_of_row(config: EncoderDecoderConfig, beams: int, length: int) -> int:
    """About the memory of the search for a sentence of `length` tokens: keys and values of all hypotheses,
    and the attention of each hypothesis to those of every other."""
    positions = length + EXTRA
    kept = 2 * config.num_layers * config.hidden_size * positions * beams
    attention = config.heads * beams * beams * positions
    return round(4 * (_OVERHEAD * (kept + attention) + 2 * beams * config.vocab_size))


def usable_memory() -> int:
    """Bytes that are free on a device; on a CPU, those that are free for this process."""
    stats = jax.local_devices()[0].memory_stats()
    return stats["bytes_limit"] - stats["bytes_in_use"] if stats else free_memory()
