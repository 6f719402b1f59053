"""Where the time of an update, or of a beam search, goes: operations of the compiled program by what they do.

    taskset -c 0 python benchmarks/operations.py --output OUT update [--size 12x768x4]
    taskset -c 0 python benchmarks/operations.py --output OUT beam --checkpoint RUN --lines FILE

Writes OUT.json and OUT.md. On one core an operation is done when it says so; on several, threads share it.
An update is that of train_step.py, of layers x width x rows; a beam search translates FILE with a beam of 4,
as in translate.py. Compilation and a first round are not timed. Products have the speed at which they run,
from their shapes, beside that of one large product on the same cores.

Export MALLOC_* and GLIBC_TUNABLES (docs/usage/train.md). Runs alone: nothing else may use the machine.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import re
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from about import about

_GROUPS = {
    "update": {
        "optimizer": r"cond/branch|apply_update",
        "norm of the gradient": r"jit\(traced\)/(square|reduce_sum|is_finite)",
        "random numbers and dropout": r"dropout|threefry|random",
        "vocabulary head and loss": r"mlm_head|take_along_axis|jvp\(\)|logsumexp|softmax",
        "attention": r"/attention(/|$)",
        "feed-forward": r"/feed_forward(/|$)",
        "layer norms": r"norm",
        "embedding": r"embed",
        "loop over layers": r"while",
    },
    "beam": {
        "encoder": r"/encode(/|$)",
        "layer norms": r"/norm(/|$)",
        "self-attention": r"self_attention",
        "cross-attention": r"cross_attention",
        "feed-forward": r"feed_forward",
        "vocabulary head": r"vocabulary_head",
        "choice of continuations": r"continuations|top_k|take_along_axis|body/(closed_call/)?(gather|select)",
    },
}
_CONTAINERS = ("while", "conditional", "call")  # whose time is that of what they hold
_LINE = re.compile(r"^\s*(?:ROOT )?%?([\w.-]+) = (\(?[a-z]+\d*\[[\d,]*\].*?) ([\w-]+)\((.*)$")
_SHAPE = re.compile(r"[a-z]+\d*\[([\d,]*)\]")


@dataclass(frozen=True)
class Operation:
    """An instruction of an optimized program: what it is of, and the operations of a product."""

    opcode: str
    source: str
    flops: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="without the ending")
    parser.add_argument("--rounds", type=int, default=3)
    whats = parser.add_subparsers(dest="what", required=True)
    whats.add_parser("update").add_argument("--size", default="12x768x4", help="layers x width x rows")
    beam = whats.add_parser("beam")
    beam.add_argument("--checkpoint", type=Path, required=True)
    beam.add_argument("--lines", type=Path, required=True)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["XLA_FLAGS"] = (
            f"{os.environ.get('XLA_FLAGS', '')} --xla_dump_to={scratch}/programs --xla_dump_hlo_as_text"
        )
        result = {**about(), "what": args.what, **profile(args, Path(scratch))}
    args.output.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    text = page(result)
    args.output.with_suffix(".md").write_text(text, encoding="utf-8")
    print(text)


def profile(args: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    import jax

    work = update(args.size) if args.what == "update" else translation(args.checkpoint, args.lines)
    work()
    started = time.perf_counter()
    for _ in range(args.rounds):
        work()
    seconds = (time.perf_counter() - started) / args.rounds
    with jax.profiler.trace(str(scratch / "trace")):
        for _ in range(args.rounds):
            work()
    operations = programs(scratch / "programs")
    [trace] = scratch.glob("trace/**/*.xplane.pb")
    rows = timed(trace, operations, _GROUPS[args.what], args.rounds)
    size = {"size": args.size} if args.what == "update" else {"lines": lines_of(args.lines)}
    peak = product_speed()
    return {
        **size,
        "jax": jax.__version__,
        "seconds": seconds,
        "gflops_of_a_large_product": peak,
        "rows": rows,
    }


def update(size: str) -> Callable[[], None]:
    from train_step_engine import ours

    layers, width, rows = map(int, size.split("x"))
    step = ours(layers, width, rows, "float32", "products")
    return lambda: step()()


def translation(checkpoint: Path, lines: Path) -> Callable[[], None]:
    from translate_engine import ours

    translate, texts = ours(checkpoint), lines.read_text(encoding="utf-8").splitlines()
    return lambda: translate(texts, 4) and None


def lines_of(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def product_speed(size: int = 1024) -> float:
    """GFLOP/s of a product of two square matrices, the best of several."""
    import jax
    import jax.numpy as jnp

    one, product = jnp.ones((size, size)), jax.jit(lambda x: x @ x)
    product(one).block_until_ready()
    seconds = []
    for _ in range(10):
        started = time.perf_counter()
        product(one).block_until_ready()
        seconds.append(time.perf_counter() - started)
    return 2 * size**3 / min(seconds) / 1e9


def programs(folder: Path) -> dict[tuple[str, str], Operation]:
    """The instructions of every dumped program, by the names of the program and of the instruction. Of
    several programs of one name the largest, which is the one that takes time."""
    found: dict[tuple[str, str], Operation] = {}
    for path in sorted(folder.glob("*after_optimizations.txt"), key=lambda path: path.stat().st_size):
        module = path.name.split(".")[1]
        found |= {
            (module, name): each for name, each in instructions(path.read_text(encoding="utf-8")).items()
        }
    return found


def instructions(text: str) -> dict[str, Operation]:
    shapes: dict[str, list[int]] = {}
    bodies: dict[str, int] = collections.Counter()
    sources: dict[str, str] = {}
    parsed, body = [], ""
    for line in text.splitlines():
        if line.startswith(("%", "ENTRY")) and line.rstrip().endswith("{"):
            body = line.removeprefix("ENTRY ").split()[0].lstrip("%")
        if not (match := _LINE.match(line)):
            continue
        name, shape, opcode, rest = match.groups()
        shapes[name] = _dimensions(shape)
        source = re.search(r'op_name="([^"]*)"', rest)
        parsed.append((body, name, opcode, rest, source.group(1) if source else ""))
    for body, name, opcode, rest, source in parsed:
        if opcode == "dot":
            bodies[body] += product_flops(shapes, name, rest)
            sources.setdefault(body, source)
    result = {}
    for _, name, opcode, rest, source in parsed:
        called = re.search(r"calls=%?([\w.-]+)", rest)
        inside = called.group(1) if called else ""
        flops = product_flops(shapes, name, rest) if opcode == "dot" else bodies.get(inside, 0)
        result[name] = Operation(opcode, source or sources.get(inside, ""), flops)
    return result


def product_flops(shapes: dict[str, list[int]], name: str, rest: str) -> int:
    left = rest.split(",")[0].split(")")[0].strip().lstrip("%")
    contracted = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", rest)
    flops = 2
    for each in shapes[name]:
        flops *= each
    for axis in contracted.group(1).split(",") if contracted else []:
        flops *= shapes[left][int(axis)]
    return flops


def _dimensions(shape: str) -> list[int]:
    match = _SHAPE.match(shape)
    return [int(each) for each in match.group(1).split(",") if each] if match else []


def timed(
    trace: Path, operations: dict[tuple[str, str], Operation], groups: dict[str, str], rounds: int
) -> list[dict[str, Any]]:
    """A row for each group, products apart from the rest, with milliseconds of a round; the longest first."""
    from jax.profiler import ProfileData

    rows: dict[tuple[str, bool], dict[str, Any]] = {}
    longest: dict[tuple[str, bool], collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for plane in ProfileData.from_file(str(trace)).planes:
        for line in plane.lines:
            for event in line.events:
                about_event = dict(event.stats)
                if "hlo_op" not in about_event:
                    continue
                operation = operations.get((about_event["hlo_module"], event.name), Operation("", "", 0))
                if operation.opcode in _CONTAINERS or event.name.split(".")[0] in _CONTAINERS:
                    continue
                key = group_of(operation.source, groups), bool(operation.flops)
                row = rows.setdefault(
                    key, {"group": key[0], "product": key[1], "ms": 0.0, "calls": 0.0, "flops": 0.0}
                )
                row["ms"] += event.duration_ns / 1e6 / rounds
                row["calls"] += 1 / rounds
                row["flops"] += operation.flops / rounds
                longest[key][f"{event.name} {operation.source.rpartition('/')[2]}"] += (
                    event.duration_ns / 1e6 / rounds
                )
    for key, row in rows.items():
        row["longest"] = longest[key].most_common(3)
    return sorted(rows.values(), key=lambda row: -row["ms"])


def group_of(source: str, groups: dict[str, str]) -> str:
    return next((name for name, pattern in groups.items() if re.search(pattern, source)), "other")


def page(result: dict[str, Any]) -> str:
    what = {
        "update": f"an update of {result.get('size')} (layers x width x rows)",
        "beam": f"a beam search of 4 for {result.get('lines')} sentences",
    }[result["what"]]
    total = sum(row["ms"] for row in result["rows"])
    products = [row for row in result["rows"] if row["product"]]
    speed = sum(row["flops"] for row in products) / sum(row["ms"] for row in products) / 1e6
    head = [
        f"# Where the time of {what} goes",
        "",
        f"    {result['command']}",
        "",
        f"Commit {result['commit']}, {result['date']}, {result['machine']}, jax {result['jax']}: "
        f"{result['seconds']:.2f} s without a profiler, {total / 1000:.2f} s of operations in it. Products "
        f"are {_percent(products, total)} of that, at {speed:.0f} GFLOP/s; one of two large matrices has "
        f"{result['gflops_of_a_large_product']:.0f}.",
        "",
        "| of | | ms | share | calls | GFLOP/s | longest |",
        "| --- | --- | ---: | ---: | ---: | ---: | --- |",
    ]
    return "\n".join([*head, *(_line(row, total) for row in result["rows"])]) + "\n"


def _percent(rows: list[dict[str, Any]], total: float) -> str:
    return f"{100 * sum(row['ms'] for row in rows) / total:.0f} %"


def _line(row: dict[str, Any], total: float) -> str:
    speed = f"{row['flops'] / row['ms'] / 1e6:.0f}" if row["product"] else ""
    longest = ", ".join(f"`{name}` {ms:.1f}" for name, ms in row["longest"])
    kind = "products" if row["product"] else "rest"
    share = _percent([row], total)
    return (
        f"| {row['group']} | {kind} | {row['ms']:.1f} | {share} | {row['calls']:,.0f} | {speed} | {longest} |"
    )


if __name__ == "__main__":
    main()
