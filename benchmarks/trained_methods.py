"""What is training after pruning worth? Recovery with and without a teacher, movement, rounded training.

    python benchmarks/trained_methods.py RUN [RUN ...] --data-dir DATA --workdir W --output docs/results/NAME

Every RUN is a finetuned classification; several are seeds of one. Each method is a `compress` of each RUN,
then an `evaluate` of the artifact and of what its rounds keep, on the first reported set. The difference is
that from RUN itself, its interval of 95 % paired by examples (normal approximation; studies/statistics.py).
All rounds train for a whole epoch, also where a target is reached, so that methods are compared after as many
updates; `control` is the dense model after those of the rounds so far. --only names methods.

Commands that are done are not run again, so the same command goes on where it was stopped. Writes OUTPUT.json
and OUTPUT.md after each method. Cost: about 60 epochs of finetuning with a teacher for each RUN.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from about import about

from tlc_jax.artifacts.artifact import WEIGHTS
from tlc_jax.compress import Compress
from tlc_jax.compression.pipeline import recipe_of
from tlc_jax.config import CompressConfig
from tlc_jax.core.cli import parse
from tlc_jax.data.labelled.labelled_source import TUNING
from tlc_jax.recipes.recover import trains
from tlc_jax.studies.statistics import difference

_NORMAL = 1.96  # standard errors of a 95 % interval
_WHOLE_EPOCHS = "--recovery.target 2 --recovery.evaluate-every 250"
_TAUGHT = "--recovery.distil-weight 0.5"
_ROUNDS = f"--config prune_and_quantize --bits 8 --granularity row {_WHOLE_EPOCHS}"
_FOUR = f"{_ROUNDS} --sparsity 0.9 --recovery.levels 0.3 0.6 0.75 0.9"
_MOVEMENT = f"--config prune_movement {_WHOLE_EPOCHS}"
_SOFT = f"{_MOVEMENT} --sparsity 0 --recovery.movement.soft --recovery.movement.penalty"
_ROUNDED = f"--config quantization_aware {_WHOLE_EPOCHS}"
_SMALLEST = "--config smallest_classifier"
_PLAIN = "--granularity group:64 --range mse --matrices-only --bits"
_COMPENSATED = "--config compensated --granularity group:64 --bits"


@dataclass(frozen=True)
class Method:
    """Options of `compress`; `rounds` are evaluated beside the artifact, as RUNs in its workdir."""

    options: str
    rounds: tuple[str, ...] = ()

    @property
    def config(self) -> CompressConfig:
        return parse(Compress, [*self.options.split(), "--out", "OUT"]).settings


def _kept(*names: str) -> tuple[str, ...]:
    return tuple(f"{name}-{percent}" for percent in (30, 60, 75, 90) for name in names)


METHODS = {
    "rounds": Method(f"{_FOUR} --recovery.control", _kept("pruned", "control")),
    "rounds, taught": Method(f"{_FOUR} {_TAUGHT}", _kept("pruned")),
    "rounds, taught hidden states too": Method(
        f"{_FOUR} {_TAUGHT} --recovery.distil-hidden-weight 1", _kept("pruned")
    ),
    "magnitude in six epochs, taught": Method(f"{_ROUNDS} --sparsity 0.9 {_TAUGHT}"),
    "movement in six epochs, taught": Method(f"{_MOVEMENT} --sparsity 0.9"),
    **{f"soft movement, penalty {p}, taught": Method(f"{_SOFT} {p}") for p in (30, 100, 300)},
    **{f"{bits} bits, plain": Method(f"{_PLAIN} {bits}") for bits in (4, 3, 2)},
    **{f"{bits} bits, compensated": Method(f"{_COMPENSATED} {bits}") for bits in (4, 3, 2)},
    **{f"{bits} bits, rounded training": Method(f"{_ROUNDED} --bits {bits}") for bits in (4, 3, 2)},
    **{
        f"{bits} bits, rounded training, taught": Method(f"{_ROUNDED} {_TAUGHT} --bits {bits}")
        for bits in (3, 2)
    },
    "a fifteenth": Method(_SMALLEST),
    "a thirtieth": Method(f"{_SMALLEST}:thirtieth"),
}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="RUN")
    parser.add_argument("--data-dir", required=True, help="what is evaluated on, as evaluate --data.dir")
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--jobs", type=int, default=1, help="commands at the same time")
    parser.add_argument("--only", nargs="+", choices=METHODS, default=list(METHODS), metavar="METHOD")
    args = parser.parse_args(argv)
    done = [Measured(run, args.workdir / str(number), args.data_dir) for number, run in enumerate(args.runs)]
    with ThreadPoolExecutor(args.jobs) as pool:
        dense = np.array(list(pool.map(lambda each: each.right(each.run, each.folder / "dense"), done)))
        made = {name: [pool.submit(each.compressed, name) for each in done] for name in args.only}
        rows: dict[str, list[dict[str, Any]]] = {name: [] for name in args.only}
        for future in as_completed(future for futures in made.values() for future in futures):
            future.result()
            for name, futures in made.items():
                if not rows[name] and all(each.done() for each in futures):
                    rows[name] = list(rows_of(name, [each.result() for each in futures], dense))
                    write(args.output, dense, [row for each in rows.values() for row in each])


def write(output: Path, dense: np.ndarray, rows: Sequence[dict[str, Any]]) -> None:
    """The rows so far, as JSON and as a table."""
    device = f"{jax.device_count()} x {jax.devices()[0].device_kind}"
    result = {**about(), "device": device, "examples": dense.shape[1], "dense": dense.mean(1).tolist()}
    output.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({**result, "rows": rows}, indent=1) + "\n"
    output.with_suffix(".json").write_text(text, encoding="utf-8")
    output.with_suffix(".md").write_text(markdown(result, rows), encoding="utf-8")


@dataclass(frozen=True)
class Measured:
    """What is made of one RUN, in its folder."""

    run: str
    folder: Path
    data_dir: str

    def compressed(self, name: str) -> dict[str, Any]:
        """Of each model of a method ("": the artifact), which examples it has right; and the manifest."""
        method, where = METHODS[name], self.folder / name.replace(",", "").replace(" ", "_")
        artifact = where / "artifact"
        if not artifact.is_dir():
            rounds = ["--workdir", str(where / "rounds")] if trains(recipe_of(method.config)) else []
            called("compress", self.run, *method.options.split(), "--out", str(artifact), *rounds)
        models = {"": str(artifact)} | {each: f"{where}/rounds/{each}@best" for each in method.rounds}
        right = {each: self.right(model, where / (each or "artifact")) for each, model in models.items()}
        manifest = json.loads((artifact / "manifest.json").read_text("utf-8"))
        return {"right": right, "manifest": manifest, "file_bytes": (artifact / WEIGHTS).stat().st_size}

    def right(self, model: str, prefix: Path) -> np.ndarray:
        """Which examples of the reported set with labels a model has right."""
        predictions = prefix.parent / f"{prefix.name}.jsonl"
        if not predictions.exists():
            predictions.parent.mkdir(parents=True, exist_ok=True)
            unfinished = predictions.with_suffix(".unfinished")
            called("evaluate", model, "--data.dir", self.data_dir, "--predictions", str(unfinished))
            unfinished.rename(predictions)
        lines = [json.loads(line) for line in predictions.read_text("utf-8").splitlines()]
        (name,) = {line["set"] for line in lines if line["label"] is not None} - {TUNING}
        return np.array([line["label"] == line["predicted"] for line in lines if line["set"] == name])


def called(command: str, *arguments: str) -> None:
    """Run a command of tlc_jax; its output is shown if it fails."""
    text = [sys.executable, "-m", f"tlc_jax.{command}", *arguments]
    done = subprocess.run(text, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode:
        raise SystemExit(f"{' '.join(text)}\n{done.stdout.decode(errors='replace')}")


def rows_of(name: str, made: Sequence[dict[str, Any]], dense: np.ndarray) -> Iterator[dict[str, Any]]:
    """A row for the artifacts of a method, after one for each round that was evaluated."""
    manifest, sizes = made[0]["manifest"], made[0]["manifest"]["size"]
    for each in (*METHODS[name].rounds, ""):
        right = np.array([one["right"][each] for one in made])
        paired = difference(right, dense)
        half = _NORMAL * paired.examples_error
        yield {
            "method": f"{name}: {each}" if each else name,
            "accuracy": right.mean(1).tolist(),
            "difference": paired.mean,
            "interval": [paired.mean - half, paired.mean + half],
            "updates": sum(r["steps"] for r in manifest.get("recovery", ()) if not each or up_to(each, r)),
            **({} if each else {"file_bytes": [one["file_bytes"] for one in made]}),
            **({} if each else {"float32_bytes": sizes["float32_bytes"]}),
            **({} if each else {"zeros": 1 - sizes["nonzeros"] / sizes["weights"]}),
        }


def up_to(name: str, finished: dict[str, Any]) -> bool:
    """Whether a round, such as pruned-60, comes after this one or is it."""
    return 100 * finished["sparsity"] <= float(name.rpartition("-")[2]) + 1e-9


def markdown(result: dict[str, Any], rows: Sequence[dict[str, Any]]) -> str:
    """The table, below how it was made."""
    made = ", ".join(result[key] for key in ("commit", "date", "machine", "device"))
    lines = [
        "# Compression with training",
        "",
        f"    {result['command']}",
        "",
        f"{made}. Accuracy on {result['examples']:,} examples, the mean of {len(result['dense'])} runs where "
        "there are several; differences from the uncompressed runs with 95 % intervals, paired by examples.",
        "",
        "| method | file bytes | zeros | updates | accuracy | difference |",
        "|---|---|---|---|---|---|",
        f"| uncompressed | | | | {np.mean(result['dense']):.4f} | |",
    ]
    for row in rows:
        low, high = row["interval"]
        size = f"{round(np.mean(row['file_bytes'])):,}" if "file_bytes" in row else ""
        zeros = f"{row['zeros']:.1%}" if row.get("zeros") else ""
        change = f"{row['difference']:+.4f} ({low:+.4f} to {high:+.4f})"
        accuracy = f"{np.mean(row['accuracy']):.4f}"
        lines.append(f"| {row['method']} | {size} | {zeros} | {row['updates']:,} | {accuracy} | {change} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
