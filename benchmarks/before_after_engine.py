"""One checkout that `before_after.py` times, in a process of its own: {"what": name} -> {"seconds": of the
processor, "wall": of the clock}."""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from engine import serve
from rich.console import Console
from train_step_engine import ours

STEPS = 10


def pack_text(text: str) -> Callable[[], None]:
    """A source of text as rows of ids, its tokenizer trained on it: nothing is cached before."""
    from tlc_jax.config import DataConfig
    from tlc_jax.data.text.text_packing import prepare_text

    def one() -> None:
        cache = tempfile.mkdtemp()
        try:
            prepare_text(DataConfig(dir=text, cache_dir=cache), 8192, Console(quiet=True))
        finally:
            shutil.rmtree(cache)

    return one


def pack_codes() -> Callable[[], None]:
    """40 M weights, 4 bits, pruned to 30 %, as the parts of an artifact and back."""
    from tlc_jax.artifacts.encoding import decode, encode
    from tlc_jax.compression.quantize import quantize_tensor
    from tlc_jax.config.quantization import QuantSpec

    rng = np.random.default_rng(0)
    weights = rng.normal(size=(10_000, 4_000)).astype(np.float32)
    codes = quantize_tensor("w", weights, QuantSpec(4, "row"), rng.random(weights.shape) > 0.3)

    def one() -> None:
        about, parts = encode(codes, None, False)
        decode(about, parts)

    return one


def train() -> Callable[[], None]:
    """Ten updates of 4x256 with 8 rows of 128."""
    step = ours(4, 256, 8, "float32", "products")

    def one() -> None:
        for _ in range(STEPS):
            wait = step()
        wait()

    return one


def main() -> None:
    text = sys.argv[1]
    makers = {"pack text": lambda: pack_text(text), "pack codes": pack_codes, "train": train}
    made: dict[str, Callable[[], None]] = {}

    def answer(order: dict[str, Any]) -> dict[str, Any]:
        if order["what"] not in made:
            made.clear()
            made[order["what"]] = makers[order["what"]]()
            made[order["what"]]()  # the first turn compiles and touches memory
        cpu, wall = time.process_time(), time.perf_counter()
        made[order["what"]]()
        return {"seconds": time.process_time() - cpu, "wall": time.perf_counter() - wall}

    assert Path(text).exists()
    serve(answer)


if __name__ == "__main__":
    main()
