"""Batched beam search as Tensor2Tensor's (utils/beam_search.py), with a stop that loses nothing.

Hypotheses are scored by log probability / ((5 + length) / 6) ** alpha; the length counts </s>. Each step
takes the best 2 x beams continuations of a sentence: those that end compete with the finished hypotheses, the
best of the others stay alive. A sentence is done once the worst of the finished hypotheses that are asked
for is no worse than the bound of all alive ones: log probabilities only fall, so an alive hypothesis scores
at most its log probability over the largest penalty to come. Hypotheses that do not end within the limit
count only where none ends. One beam is greedy search: it takes only the best continuation.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from tlc_jax.core.vocabulary import TRANSLATION_EOS as EOS
from tlc_jax.core.vocabulary import TRANSLATION_PAD as PAD

Step = Callable[
    [Any, Int[Array, "batch beams"], Int[Array, ""]], tuple[Float[Array, "batch beams vocab"], Any]
]
"""(cache, last tokens, position) -> (logits of the token at that position, cache)."""
Reorder = Callable[[Any, Int[Array, "batch beams"]], Any]
"""(cache, parents) -> the cache of hypotheses that continue those with the indices `parents`."""
Grow = Callable[[Any, int], Any]
"""(cache, length) -> the same with room for `length` positions."""
Select = Callable[[Any, Int[Array, "chosen"]], Any]
"""(cache, rows) -> the cache of these sentences of the batch."""
NEVER = -1.0e30
_CHUNK = 128  # tokens of a vocabulary that are represented by their largest logit at first


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Hypotheses:
    """The hypotheses of each sentence, best first. `tokens` end with </s>, followed by pads; `ended` is False
    where the limit came first; where there are fewer than `best`, the others have the score -1e30."""

    tokens: Int[Any, "batch best length"]
    scores: Float[Any, "batch best"]
    ended: Bool[Any, "batch best"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class _State:
    position: Int[Array, ""]
    limits: Int[Array, "batch"]
    done: Bool[Array, "batch"]
    alive: Int[Array, "batch beams length"]
    log_probs: Float[Array, "batch beams"]
    cache: Any
    finished: Int[Array, "batch beams length"]
    scores: Float[Array, "batch beams"]


def beam_search(
    step: Step,
    cache: Any,
    limits: Int[Array, "batch"],
    *,
    beams: int,
    length: int,
    alpha: float,
    reorder: Reorder,
    grow: Grow | None = None,
    first: int = 0,
    select: Select | None = None,
    best: int | None = None,
    stop_early: bool = True,
) -> Hypotheses:
    """The `best` hypotheses of every sentence (None: as many as `beams`), of at most `limits` tokens, and
    `length` for all. The fewer are asked for, the sooner a sentence is done.

    The cache has room for `length` positions or, with `grow`, for `first`, which most translations do not
    exceed: a smaller cache is faster. With `select`, those that are left once half of an even number of
    sentences is done are computed alone.
    """
    batch, best = len(limits), best or beams
    # at first there is one hypothesis, the empty one
    log_probs = jnp.full((batch, beams), NEVER).at[:, 0].set(0.0)
    nothing = jnp.full((batch, beams, length), PAD, jnp.int32)
    scores = jnp.full((batch, beams), NEVER)
    start = _State(jnp.int32(0), limits, limits <= 0, nothing, log_probs, cache, nothing, scores)

    def advance(state: _State) -> _State:
        return _advance(step, reorder, state, beams, alpha, best if stop_early else None)

    def until(state: _State, position: int, left: int = 0) -> _State:
        """At this position, or when no more than `left` sentences are."""
        return jax.lax.while_loop(
            lambda state: (state.position < position) & ((~state.done).sum() > left), advance, state
        )

    def finish(state: _State) -> Hypotheses:
        def last(state: _State) -> Hypotheses:
            return _hypotheses(until(state, length), alpha, best)

        enlarge = grow if first < length else None
        if enlarge is None:
            return last(state)
        begun = until(state, first)
        # where no sentence needs the larger cache, it takes no time, and on a CPU no memory
        return jax.lax.cond(
            begun.done.all(),
            lambda: _hypotheses(begun, alpha, best),
            lambda: last(dataclasses.replace(begun, cache=enlarge(begun.cache, length))),
        )

    if select is None or batch % 2:
        return finish(start)
    begun = until(start, length if grow is None else min(first, length), batch // 2)

    def half(rows: Int[Array, "chosen"]) -> tuple[Array, ...]:
        chosen = _rows(begun, rows)
        hypotheses = jax.lax.cond(
            chosen.done.all(),
            lambda: _hypotheses(chosen, alpha, best),
            lambda: finish(dataclasses.replace(chosen, cache=select(begun.cache, rows))),
        )
        return hypotheses.tokens, hypotheses.scores, hypotheses.ended

    order = jnp.argsort(begun.done, stable=True)  # those that are left come first
    halves = jax.lax.map(half, order.reshape(2, -1))
    back = jnp.argsort(order)
    return Hypotheses(*(x.reshape(batch, *x.shape[2:])[back] for x in halves))


def _rows(state: _State, rows: Int[Array, "chosen"]) -> _State:
    """The state of some sentences, without their cache."""
    limits, done, log_probs, scores = (
        x[rows] for x in (state.limits, state.done, state.log_probs, state.scores)
    )
    return _State(
        state.position, limits, done, state.alive[rows], log_probs, None, state.finished[rows], scores
    )


def _hypotheses(end: _State, alpha: float, best: int) -> Hypotheses:
    ended = end.scores > NEVER / 2
    none = ~ended.any(axis=1, keepdims=True)
    penalty = _penalty(end.limits, alpha)[:, None]
    unended = jnp.where(end.log_probs > NEVER / 2, end.log_probs / penalty, NEVER)
    tokens = jnp.where(none[:, :, None], end.alive, end.finished)
    return Hypotheses(tokens[:, :best], jnp.where(none, unended, end.scores)[:, :best], ended[:, :best])


def _advance(
    step: Step, reorder: Reorder, state: _State, beams: int, alpha: float, wanted: int | None
) -> _State:
    """One more token for all that are alive. A sentence is done when so many `wanted` ones cannot change any
    more; None: at its limit."""
    position, limits, batch = state.position, state.limits, len(state.limits)
    last = jnp.where(
        position == 0, PAD, jax.lax.dynamic_index_in_dim(state.alive, jnp.maximum(position - 1, 0), 2, False)
    )
    logits, cache = step(state.cache, last, position)
    looked_at = 2 * beams if beams > 1 else 1
    tokens, log_probs = _continuations(logits, state.log_probs, looked_at)
    best, chosen = jax.lax.top_k(log_probs.reshape(batch, -1), looked_at)
    parents = chosen // log_probs.shape[2]
    token = jnp.take_along_axis(tokens.reshape(batch, -1), chosen, axis=1)
    sequences = jnp.take_along_axis(state.alive, parents[:, :, None], axis=1)
    sequences = jax.lax.dynamic_update_slice_in_dim(sequences, token[:, :, None], position, axis=2)
    ends = token == EOS

    # at most `beams` of 2 x beams end, one for each hypothesis: enough are left
    still, order = jax.lax.top_k(jnp.where(ends, NEVER, best), beams)
    alive = jnp.take_along_axis(sequences, order[:, :, None], axis=1)
    source = jnp.take_along_axis(parents, order, axis=1)
    cache = reorder(cache, source) if beams > 1 else cache

    new = jnp.where(ends & (best > NEVER / 2), best / _penalty(position + 1, alpha), NEVER)
    new = jnp.where(state.done[:, None], NEVER, new)
    scores, order = jax.lax.top_k(jnp.concatenate([state.scores, new], axis=1), beams)
    both = jnp.concatenate([state.finished, sequences], axis=1)
    finished = jnp.take_along_axis(both, order[:, :, None], axis=1)

    done = state.done | (position + 1 >= limits)
    if wanted is not None:
        largest = jnp.maximum(_penalty(position + 2, alpha), _penalty(limits, alpha))
        done = done | (scores[:, wanted - 1] >= still[:, 0] / largest)
    # the alive ones of a sentence that is done stay as they were: they may be its result
    keep = state.done
    alive = jnp.where(keep[:, None, None], state.alive, alive)
    still = jnp.where(keep[:, None], state.log_probs, still)
    return _State(position + 1, limits, done, alive, still, cache, finished, scores)


@jax.named_scope("continuations")
def _continuations(
    logits: Float[Array, "batch beams vocab"], log_probs: Float[Array, "batch beams"], count: int
) -> tuple[Int[Array, "batch beams best"], Float[Array, "batch beams best"]]:
    """The `count` best next tokens of each hypothesis, and the log probabilities with them."""
    vocab = logits.shape[-1]
    total = jax.nn.logsumexp(logits, axis=-1)
    if vocab <= _CHUNK * count:
        best, tokens = jax.lax.top_k(logits, min(count, vocab))
    else:
        best, tokens = _top_by_chunks(logits, count)
    return tokens, best - total[:, :, None] + log_probs[:, :, None]


def _top_by_chunks(logits: Array, count: int) -> tuple[Array, Array]:
    """`jax.lax.top_k` of a long last axis: the largest values are in the chunks with the largest maxima. Four
    times as fast for 32,768 logits on a CPU."""
    padding = -logits.shape[-1] % _CHUNK
    padded = jnp.pad(logits, ((0, 0), (0, 0), (0, padding)), constant_values=-jnp.inf)
    chunks = padded.reshape(*logits.shape[:2], -1, _CHUNK)
    _, which = jax.lax.top_k(chunks.max(axis=-1), count)
    which = jnp.sort(which, axis=-1)  # among equals the first token comes first, as it does in top_k
    candidates = jnp.take_along_axis(chunks, which[..., None], axis=2)
    best, inside = jax.lax.top_k(candidates.reshape(*logits.shape[:2], -1), count)
    chunk = jnp.take_along_axis(which, inside // _CHUNK, axis=-1)
    return best, chunk * _CHUNK + inside % _CHUNK


def _penalty(length: Any, alpha: float) -> Array:
    return ((5.0 + length) / 6.0) ** alpha
