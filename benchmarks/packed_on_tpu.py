"""Peak memory of compressed models on a TPU v5e, as the real compiler says where no TPU is.

    python benchmarks/packed_on_tpu.py --output docs/results/packed_on_tpu

The encoder and the translation model of `memory_at_use.py`, with codes of 4 bits and in float32, for one
device of `v5e:2x2`: the loss of an evaluation batch of 32 rows of 128 tokens, and greedy translation of 32
lines. Nothing is run. Writes OUTPUT.json, program by program (what it has is not repeated), and OUTPUT.md.
Needs the extra `tpu`; no TPU.

Cost: 1 to 2 minutes a program on 2 CPU cores.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

from about import about

from tlc_jax.core.compiled import look_for_no_tpu

look_for_no_tpu()

import jax  # noqa: E402 it reads the environment
import jax.numpy as jnp  # noqa: E402
import random_artifacts as made  # noqa: E402

from tlc_jax.config import Config  # noqa: E402
from tlc_jax.runs.ahead_of_time import topology_devices  # noqa: E402
from tlc_jax.tasks.decoder import search  # noqa: E402
from tlc_jax.tasks.kinds import kind_of  # noqa: E402

TOPOLOGY, ROWS, BITS = "v5e:2x2", 32, (4, 32)
Program = tuple[Callable[..., Any], Any]


def evaluation(config: Config) -> Program:
    objective = kind_of(config).objective(config)
    return lambda params, batch: objective.loss(params, batch, None)[1], objective.largest_batch()


def translation(config: Config) -> Program:
    ids = jax.ShapeDtypeStruct((ROWS, config.data.sequence_length), jnp.int32)
    limits = jax.ShapeDtypeStruct((ROWS,), jnp.int32)
    decode = functools.partial(search, config.model, beams=1, alpha=0.6)  # type: ignore[arg-type]
    return lambda params, batch: decode(params, *batch), (ids, limits)


PROGRAMS = {
    "evaluate": (dataclasses.replace(made.encoder(12, 768), batch_size=ROWS), evaluation),
    "translate --beams 1": (made.translation(8, 640), translation),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    path = args.output.with_suffix(".json")
    result: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {**about(), "programs": {}}
    for name, (config, program) in PROGRAMS.items():
        for bits in BITS:
            if (key := f"{name}, {bits} bits") not in result["programs"]:
                result["programs"][key] = {"name": name, "bits": bits, **compiled(config, program, bits)}
                print(json.dumps(result["programs"][key]), flush=True)
                path.write_text(json.dumps(result, indent=1) + "\n")
    args.output.with_suffix(".md").write_text(document(result))


def compiled(config: Config, program: Callable[[Config], Program], bits: int) -> dict[str, int]:
    """Bytes that the compiler says."""
    function, batch = program(config)
    here = jax.sharding.SingleDeviceSharding(topology_devices(TOPOLOGY)[0])
    arguments = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here), (made.abstract(config, bits), batch)
    )
    stats = jax.jit(function).trace(*arguments).lower(lowering_platforms=("tpu",)).compile().memory_analysis()
    return {
        "parameter_bytes": sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(arguments[0])),
        "argument_bytes": stats.argument_size_in_bytes,
        "peak_bytes": stats.peak_memory_in_bytes,
    }


def document(result: dict[str, Any]) -> str:
    """The table for people."""
    text = (
        f"Commit {result['commit']}, {result['date']}, on {result['machine']}: libtpu compiled for one "
        f"device of `{TOPOLOGY}`; nothing was run. `evaluate` is the loss of {ROWS} rows of {made.LENGTH} "
        f"tokens, `translate` the translation of {ROWS} lines of {made.LENGTH // 4} tokens. About 110 "
        "million weights each; codes have a range for each 64 weights, 32 bits are float32. In MB; 'as laid "
        "out' are parameters and batch with the padding of the device's tiles, the peak includes them."
    )
    rows = [
        f"| `{each['name']}` | {each['bits']} | {each['parameter_bytes'] / 1e6:.1f} "
        f"| {each['argument_bytes'] / 1e6:.1f} | {each['peak_bytes'] / 1e6:.1f} |"
        for each in result["programs"].values()
    ]
    table = ["| program | bits | parameters | as laid out | peak |", "|---|---:|---:|---:|---:|", *rows]
    title, command = "# Memory of a compressed model on a TPU v5e", f"    {result['command']}"
    return "\n\n".join([title, command, textwrap.fill(text, 120), "\n".join(table)]) + "\n"


if __name__ == "__main__":
    main()
