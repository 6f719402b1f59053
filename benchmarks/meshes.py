"""The same run on every mesh and on several processes: losses of 20 updates side by side.

    python benchmarks/meshes.py --work runs/meshes --output docs/results/meshes

On a CPU that pretends to be eight devices: one device; four meshes of eight; two processes of four devices
each. An encoder on installed documentation and an encoder-decoder on message catalogues, float32, with
dropout, two micro-batches. Written are OUTPUT.json, with every loss, and OUTPUT.md, the table.

Cost: a quarter of an hour on one core.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

from about import about

STEPS = 20
# name: processes, devices of each, (data, fsdp, tensor)
LAYOUTS = {
    "1 device": (1, 1, (1, 1, 1)),
    "8 x 1 x 1": (1, 8, (8, 1, 1)),
    "1 x 8 x 1": (1, 8, (1, 8, 1)),
    "2 x 2 x 2": (1, 8, (2, 2, 2)),
    "4 x 1 x 2": (1, 8, (4, 1, 2)),
    "2 processes of 4, 8 x 1 x 1": (2, 4, (8, 1, 1)),
    "2 processes of 4, 2 x 2 x 2": (2, 4, (2, 2, 2)),
}
SAME = (
    f"--budget.steps {STEPS} --budget.training-seconds None --schedule.follows steps --log-every 1 "
    "--evaluation.per-run None --model.dropout 0.1 --model.attention-dropout 0.1 --model.num-layers 2 "
    "--model.hidden-size 128"
).split()
MODELS = {
    "encoder": ["--config", "quickstart", "--batch-size", "32", "--micro-batch", "16"],
    "encoder-decoder": (
        "--config translate_small --batch-size 2048 --micro-batch 1024 --data.max-shapes 1 "
        "--data.sequence-length 40 --task.row-multiple 16 --task.bleu-sentences 16 "
        "--schedule.noam-steps 20 --optimizer.learning-rate 0.1"
    ).split(),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="run directories; finished runs are kept")
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    found: dict[str, Any] = {**about(), "losses": {}}
    for model, options in MODELS.items():
        found["losses"][model] = {
            layout: losses(args.work / f"{model} {layout}".replace(" ", "_"), options, *LAYOUTS[layout])
            for layout in LAYOUTS
        }
    args.output.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n")
    args.output.with_suffix(".md").write_text(document(found))


def losses(
    workdir: Path, options: list[str], processes: int, devices: int, mesh: tuple[int, int, int]
) -> list[float]:
    """Of each update of the run, which is made unless it is there."""
    metrics = workdir / "metrics.jsonl"
    if not metrics.exists() or len(logged(metrics)) < STEPS:
        axes = [f"--mesh.{axis}={size}" for axis, size in zip(("fsdp", "tensor"), mesh[1:], strict=True)]
        command = [sys.executable, "-m", "tlc_jax.train", *options, *SAME, *axes, "--workdir", str(workdir)]
        forced = f"--xla_force_host_platform_device_count={devices}"
        environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": forced}
        hosts = ["--hosts.coordinator", f"127.0.0.1:{free_port()}", "--hosts.processes", str(processes)]
        each = [[*hosts, "--hosts.index", str(i)] for i in range(processes)] if processes > 1 else [[]]
        running = [subprocess.Popen([*command, *own], env=environment) for own in each]
        codes = [one.wait() for one in running]
        if any(codes):
            sys.exit(f"{' '.join(command)} failed")
    return logged(metrics)


def logged(metrics: Path) -> list[float]:
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    return [line["train/loss"] for line in lines if "train/loss" in line]


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def document(found: dict[str, Any]) -> str:
    """The table for people."""
    here = (
        f"Commit {found['commit']}, {found['date']}, on {found['machine']}, eight fake devices. Meshes are "
        f"data x fsdp x tensor; 2x128, float32, dropout 0.1, two micro-batches, {STEPS} updates through "
        "`python -m tlc_jax.train`. The difference is the largest of any update's loss from one device's; "
        "all losses are in `meshes.json`."
    )
    lines = [
        "# The same run on every mesh, and on two processes",
        "",
        f"    {found['command']}",
        "",
        textwrap.fill(here, 120),
        "",
        "| model | layout | first loss | last loss | largest difference |",
        "|---|---|---|---|---|",
    ]
    for model, of in found["losses"].items():
        alone = of["1 device"]
        for layout, own in of.items():
            difference = max(abs(a - b) for a, b in zip(own, alone, strict=True))
            cells = [model, layout, f"{own[0]:.6f}", f"{own[-1]:.6f}", f"{difference:.1e}"]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
