"""Seconds of attention through `jax.nn.dot_product_attention` beside ours, forward and backward.

    python benchmarks/attention.py --output docs/results/attention.json

One layer of 12x768 with rows of 128 tokens, without dropout, which jax's function does not have. Both take
turns; the ratio is that of each turn, with the interval of its mean over the turns (Student's t of the
logarithms). Cost: a minute of one core, on which nothing else should run.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from about import about

from tlc_jax.models.layers import attend
from tlc_jax.studies.statistics import interval

ROWS, LENGTH, HEADS, SIZE = 4, 128, 12, 64
TURNS, CALLS = 40, 10


def ours(query: Any, key: Any, value: Any, visible: Any) -> Any:
    return attend(query, key, value, visible, lambda weights: weights)


def theirs(query: Any, key: Any, value: Any, visible: Any) -> Any:
    mixed = jax.nn.dot_product_attention(query, key, value, mask=visible[:, None], scale=1.0)
    return mixed.reshape(ROWS, LENGTH, HEADS * SIZE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    keys = jax.random.split(jax.random.key(0), 4)
    query, key, value, weight = (jax.random.normal(each, (ROWS, LENGTH, HEADS, SIZE)) for each in keys)
    visible = jnp.ones((ROWS, LENGTH, LENGTH), bool)

    def update(attention: Callable[..., Any]) -> Callable[..., Any]:
        def loss(query: Any, key: Any, value: Any) -> Any:
            mixed = attention(query, key, value, visible)
            return jnp.sum(mixed * weight.reshape(mixed.shape)), mixed

        return jax.jit(jax.grad(loss, (0, 1, 2), has_aux=True))

    updates = {"ours": update(ours), "dot_product_attention": update(theirs)}
    results = [jax.block_until_ready(each(query, key, value)) for each in updates.values()]
    for one, other in zip(*map(jax.tree.leaves, results), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)
    seconds: dict[str, list[float]] = {name: [] for name in updates}
    for _ in range(TURNS):
        for name, each in updates.items():
            started = time.perf_counter()
            for _ in range(CALLS):
                jax.block_until_ready(each(query, key, value))
            seconds[name].append((time.perf_counter() - started) / CALLS)
    ratios = np.log(np.array(seconds["dot_product_attention"]) / np.array(seconds["ours"]))
    ends = interval(ratios) or (math.nan, math.nan)
    result = {
        **about(),
        "milliseconds": {name: 1e3 * statistics.median(each) for name, each in seconds.items()},
        "ratio": math.exp(float(np.mean(ratios))),
        "interval": [math.exp(end) for end in ends],
    }
    print(json.dumps(result))
    args.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
