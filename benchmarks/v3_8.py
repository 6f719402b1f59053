"""Every size of the paper on a TPU v3-8, compiled by the real compiler where no TPU is: what fits, and how.

    python benchmarks/v3_8.py --output docs/results/v3_8 [--only roberta-12x768 ...]

Nine RoBERTa sizes at 8192 rows of 128 tokens, and the translation grid of Figure 5 at 32,768 tokens, all in
bfloat16. The micro-batch is `FIRST`'s or, where that does not fit, a half of it, or a quarter ...; how
parameters are split and what is computed again are chosen by `SIZES`. 12x768 is compiled for other TPUs too.
Written are OUTPUT.json, size by size (what it has is not repeated), and OUTPUT.md. Needs the extra `tpu`; no
TPU.

Cost: 1 to 4 minutes a size on 2 CPU cores.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path
from typing import Any

from about import about

TOPOLOGY = "v3:2x2"
DEEPER = "--fibers_default_thread_stack_size=1048576"  # what libtpu 0.0.42.1 needs to compile for a v4
WIDTH = 120  # of a line of text
ELSEWHERE = ("v3:4x4", "v4:2x2x1", "v5e:2x4", "v5p:2x2x1", "v6e:2x4")  # the paper's base size there
FIRST = {"pretrain": 1024, "translate": 32_768}  # micro-batch that is tried first
# name: config, depth, width, devices that split the parameters, what is computed again
SIZES = {
    **{f"roberta-{n}x768": ("pretrain", n, 768, 1, "products") for n in (3, 6, 12, 18, 24)},
    **{f"roberta-12x{d}": ("pretrain", 12, d, 1, "products") for d in (256, 512, 1024)},
    "roberta-12x1536": ("pretrain", 12, 1536, 8, "products"),
    **{f"translate-6x{d}": ("translate", 6, d, 1, "products") for d in (128, 256, 512, 1024)},
    "translate-6x2048": ("translate", 6, 2048, 8, "products"),
    **{f"translate-{n}x512": ("translate", n, 512, 1, "products") for n in (2, 8)},
}

REMAINS = """\
What is sent, and why: once a micro-batch the gradients are summed over the devices, those of layers in
bfloat16 as they are computed, that of the embedding twice (in float32 where tokens are looked up, in
bfloat16 where they are predicted); once an update the norm. With `fsdp` each kernel is gathered in bfloat16
for the forward and for the backward pass, and the embedding twice. No all-to-all and no collective-permute
is left. Two things were tried or weighed and left: a gradient that is told to lie split is still summed
whole (libtpu makes no reduce-scatter of it for this topology, and moves the embedding's by all-to-all);
gradients could be summed once an update, in float32, instead of once a micro-batch, which for
roberta-12x768 would send 0.5 GB in place of 2.6, of which larger micro-batches (2,048 fit, too) also save a
half."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--only", nargs="+", choices=SIZES, default=list(SIZES))
    args = parser.parse_args()
    path = args.output.with_suffix(".json")
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {**about(), "sizes": {}}
    for name in args.only:
        if name not in found["sizes"]:
            found["sizes"][name] = fitting(name)
            path.write_text(json.dumps(found, indent=1) + "\n")
    for topology in ELSEWHERE:
        if topology not in found.setdefault("elsewhere", {}):
            made = {name: value for name, value in about().items() if name != "command"}
            found["elsewhere"][topology] = {**fitting("roberta-12x768", topology), **made}
            path.write_text(json.dumps(found, indent=1) + "\n")
    args.output.with_suffix(".md").write_text(document(found))


def fitting(name: str, topology: str = TOPOLOGY) -> dict[str, Any]:
    """What the compiler says of the first micro-batch that fits."""
    config, depth, width, fsdp, remat = SIZES[name]
    micro, refused = FIRST[config], []
    while micro >= 8:
        options = ["--model.num-layers", depth, "--model.hidden-size", width, "--mesh.fsdp", fsdp]
        options += ["--model.compute-dtype", "bfloat16", "--model.remat", remat, "--micro-batch", micro]
        told = compiled(["--config", config, *map(str, options), "--topology", topology])
        if told["fits"]:
            del told["parameters"]
            command = " ".join(["bench compile --config", config, *map(str, options), "--topology", topology])
            return {**told, "command": command, "refused": refused}
        refused.append({"micro_batch": micro, "compiler": told["compiler"]})
        micro //= 2
    sys.exit(f"{name} fits with no micro-batch: {refused[-1]['compiler']}")


def compiled(options: list[str]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "found.json"
        command = [sys.executable, "-m", "tlc_jax.bench", "compile", *options]
        environment = {"LIBTPU_INIT_ARGS": DEEPER, **os.environ}
        done = subprocess.run(
            [*command, "--output", output], env=environment, check=False, capture_output=True, text=True
        )
        if not output.exists():
            sys.exit(done.stderr)
        return json.loads(output.read_text())


def table(first: str, rows: dict[str, Any]) -> list[str]:
    """Lines of Markdown; `first` is what the names of the rows are."""
    head = [first, "mesh", "micro-batch", "computed again", "peak GiB", "collectives an update", "TFLOPs"]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for name, one in rows.items():
        mesh = " x ".join(f"{axis} {size}" for axis, size in one["mesh"].items() if size > 1)
        sent = ", ".join(f"{c['times']} {c['kind']} ({c['bytes'] / 1e6:,.0f} MB)" for c in one["collectives"])
        flops = f"{one['flops_per_device'] / 1e12:,.1f}"
        peak = f"{one['peak_gib']:.2f} of {one['memory_gib']}"
        cells = [name, mesh, f"{one['micro_batch']:,}", one["remat"], peak, sent, flops]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def document(found: dict[str, Any]) -> str:
    """The tables for people."""
    at_once = sum(not one["refused"] for one in found["sizes"].values())
    other = next(iter(found["elsewhere"].values()))
    here = (
        f"Commit {found['commit']}, {found['date']}, on {found['machine']}: libtpu compiled the train step "
        f"for `{TOPOLOGY}` (a v3-8: 4 chips, 8 devices with 15.5 GiB to use each); nothing was run. RoBERTa: "
        "8,192 rows of 128 tokens an update; translation: 32,768 tokens on each side; bfloat16. The "
        "micro-batch counts rows (translation: tokens) over all devices; 1,024 rows, or all tokens at once, "
        f"were tried first, and {at_once} of {len(found['sizes'])} sizes fit so. Peak memory and bytes sent "
        "are those of one device; TFLOPs those of one device and update. Commands, compile times and what "
        "the compiler said of larger micro-batches, where one was refused, are in `v3_8.json`."
    )
    elsewhere = (
        f"The same with another `--topology`, on {other['date']} at commit {other['commit']}. For the v4, "
        f"libtpu 0.0.42.1 overflows a stack of its own unless `LIBTPU_INIT_ARGS={DEEPER}` is set."
    )
    lines = [
        "# Every size of the paper on a v3-8, before anybody pays for one",
        "",
        f"    {found['command']}",
        "",
        textwrap.fill(here, WIDTH),
        "",
        *table("size", found["sizes"]),
        "",
        REMAINS,
        "",
        "## roberta-12x768 on other TPUs",
        "",
        textwrap.fill(elsewhere, WIDTH),
        "",
        *table("topology", {f"`{name}`": one for name, one in found["elsewhere"].items()}),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
