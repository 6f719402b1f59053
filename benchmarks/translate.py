"""Translation speed and agreement: ours, Hugging Face's generate, CTranslate2 in float32 and in int8.

    python benchmarks/translate.py --checkpoint RUN --lines FILE --work W --output OUT.json [--rounds 7]
        [--before CHECKOUT RUN]

RUN is exported to Hugging Face (`tlc_jax.export`), and from there converted by CTranslate2. Each engine has a
process of its own on the same cores, and they take turns: one round is every engine once, on all lines of
FILE, greedily and with a beam of 4, without a length penalty. Compilation and a first round are not timed.
Batches have sentences of similar length everywhere. Ours have 2,048 tokens, 64 sentences at most, and two are
computed at once; CTranslate2 runs both in this way (*apart*: a batch of 64 for each core) and with all cores
on each batch of 32, Hugging Face in the second. With --before, an earlier checkout of this package takes
turns, too; RUN is one that it can read. Printed are medians, ratios, and how many lines are the same as ours.

Needs the extra `interop`. Export MALLOC_* and GLIBC_TUNABLES (docs/usage/train.md), for all engines alike.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from about import about
from engine import Engine

ENGINES = (
    *("tlc_jax", "huggingface", "ctranslate2_float32", "ctranslate2_float32_apart"),
    *("ctranslate2_int8", "ctranslate2_int8_apart"),
)
BEAMS = (1, 4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--checkpoint", required=True)
    for name in ("lines", "work", "output"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--before", nargs=2, metavar=("CHECKOUT", "RUN"))
    args = parser.parse_args()
    roots = {"tlc_jax": args.checkpoint, "huggingface": args.work / "huggingface"}
    export(args.checkpoint, args.work / "huggingface", args.work / "ctranslate2")
    roots |= {name: args.work / "ctranslate2" for name in ENGINES if name.startswith("ctranslate2")}
    engines = {name: Engine("translate_engine.py", name, roots[name], args.lines) for name in ENGINES}
    if args.before:
        checkout, run = map(Path, args.before)
        engines["tlc_jax_before"] = Engine(
            "translate_engine.py", "tlc_jax_before", run, args.lines, checkout=checkout
        )
    found: dict[str, Any] = {
        **about(),
        "versions": versions() | ({"before": commit(Path(args.before[0]))} if args.before else {}),
        "lines": len(args.lines.read_text().splitlines()),
        "rounds": args.rounds,
    }
    for beams in BEAMS:
        found[f"beam_{beams}"] = compare(engines, beams, args.rounds)
        args.output.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


def compare(engines: dict[str, Engine], beams: int, rounds: int) -> dict[str, Any]:
    texts = {name: engine.ask({"beams": beams})["texts"] for name, engine in engines.items()}
    seconds: dict[str, list[float]] = {name: [] for name in engines}
    for _ in range(rounds):
        for name, engine in engines.items():
            seconds[name].append(engine.turn({"beams": beams})["seconds"])
    medians = {name: statistics.median(own) for name, own in seconds.items()}
    return {
        "median_seconds": medians,
        "times_as_fast_as": {name: own / medians["tlc_jax"] for name, own in medians.items()},
        "seconds": seconds,
        "same_lines_as_ours": {
            name: sum(one == other for one, other in zip(texts["tlc_jax"], own, strict=True))
            for name, own in texts.items()
        },
    }


def export(checkpoint: str, folder: Path, converted: Path) -> None:
    command = [sys.executable, "-m", "tlc_jax.export", "--checkpoint", checkpoint]
    if not folder.exists():
        subprocess.run([*command, "--format", "huggingface", "--out", folder], check=True)
    if not converted.exists():
        from ctranslate2.converters import TransformersConverter

        TransformersConverter(str(folder), copy_files=["tokenizer.json"]).convert(str(converted))


def commit(checkout: Path) -> str:
    command = ["git", "-C", str(checkout), "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def versions() -> dict[str, str]:
    import importlib.metadata

    names = ("jax", "torch", "transformers", "ctranslate2")
    return {name: importlib.metadata.version(name) for name in names}


if __name__ == "__main__":
    main()
