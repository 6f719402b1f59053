"""The time of a training step beside Hugging Face's RobertaPreLayerNorm in PyTorch.

    python benchmarks/train_step.py --output OUT.json [--sizes 4x256x8 12x768x4] [--rounds 7] [--steps 2]

A size is layers x width x rows. Engines: `tlc_jax`; `huggingface` as it is (logits of every place, scaled dot
product attention, fused AdamW); `huggingface_gathered`, with a head for the predicted places only, as ours;
either with `_compiled`, under torch.compile. They take turns in processes of their own on the same cores (or
GPU); a first turn is not timed. Told are medians, how often ours fits into each, tokens a second and, with
--peak-tflops, the share of that peak that the model's own operations use (core/flops.py).

Also told: the seconds that the host needs to build our batch, and what share of a step that is.

Needs the extra `interop`. Export MALLOC_* and GLIBC_TUNABLES (docs/usage/train.md), for all engines alike.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

from about import about
from engine import Engine
from train_step_engine import LENGTH, RATE, batch_of

from tlc_jax.config.model import ModelConfig
from tlc_jax.data.text.masking import slots
from tlc_jax.models.flops import mlm_update

ENGINES = ["tlc_jax", *(f"huggingface{how}" for how in ("", "_gathered", "_compiled", "_gathered_compiled"))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--sizes", nargs="+", default=["4x256x8", "12x768x4"])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=2, help="of an engine's turn")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--remat", choices=("products", "all", "none"), default="products")
    parser.add_argument("--engines", nargs="+", default=ENGINES[:3], choices=ENGINES)
    parser.add_argument("--peak-tflops", type=float, help="of the device, in this dtype")
    args = parser.parse_args()
    engines = {name: Engine("train_step_engine.py", name, args.dtype, args.remat) for name in args.engines}
    about_engines = {name: engine.ask({"about": True}) for name, engine in engines.items()}
    settings = {name: getattr(args, name) for name in ("dtype", "remat", "rounds", "steps")}
    found: dict[str, Any] = {**about(), **settings, "engines": about_engines, "sizes": {}}
    for size in args.sizes:
        found["sizes"][size] = compare(size, engines, args)
        args.output.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


def compare(size: str, engines: dict[str, Engine], args: argparse.Namespace) -> dict[str, Any]:
    layers, width, rows = map(int, size.split("x"))
    order = {"size": [layers, width, rows], "steps": args.steps}
    for engine in engines.values():
        engine.ask({**order, "steps": 2})
    seconds: dict[str, list[float]] = {name: [] for name in engines}
    for _ in range(args.rounds):
        for name, engine in engines.items():
            seconds[name].append(engine.turn(order)["seconds"])
    medians = {name: statistics.median(own) for name, own in seconds.items()}
    model = ModelConfig(num_layers=layers, hidden_size=width)
    flops = mlm_update(model, rows, LENGTH, slots(LENGTH, RATE))
    rates = {name: flops / own / 1e12 for name, own in medians.items()}
    peak = args.peak_tflops
    shares = {"share_of_peak": {name: x / peak for name, x in rates.items()}} if peak else {}
    started = time.perf_counter()
    for _ in range(20):
        batch_of(rows)
    host = (time.perf_counter() - started) / 20
    return {
        "median_seconds": medians,
        "times_as_fast_as": {name: own / medians["tlc_jax"] for name, own in medians.items()},
        "tokens_per_second": {name: rows * LENGTH / own for name, own in medians.items()},
        "model_tflops_per_second": rates,
        **shares,
        "host_seconds_per_batch": host,
        "host_share_of_step": host / medians["tlc_jax"],
        "seconds": seconds,
    }


if __name__ == "__main__":
    main()
