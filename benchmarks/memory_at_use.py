"""Peak memory of `evaluate` and `translate` beside the size of the artifact that they use.

    python benchmarks/memory_at_use.py --output docs/results/memory_at_use

An encoder of 12x768 and a translation model of 8 + 8 layers of 640, about 110 million weights each, with
random codes of 2, 4 and 8 bits and a range for each 64 weights, and in float32, which is what all of them
were decoded to before they stayed packed. Each command runs four times, in processes of its own: the first
compiles its programs, the others find them in the cache, and the median of these counts. The peak is that of
the resident set as the system counts it (getrusage, what /usr/bin/time -v shows), with the system's allocator
as it is. From it the peak of the same command with an artifact of
2x64 is taken: Python, jax, the compiler, the tokenizer and the data. `evaluate`: 4 rows of 128 tokens at
once; `translate`: 8 short lines, greedy and with a beam of 4, whose keys and values take memory of their own,
in float32 as packed: with models whose translations end at once, so that they never outgrow the room that is
made for a translation as long as its source and 8 tokens more, and with models whose translations never end.
Writes OUTPUT.json, line by line (what it has is not repeated), and OUTPUT.md.

Cost: 20 minutes on 2 CPU cores, 1 GB of disk.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path
from typing import Any

import random_artifacts as made
from about import about

from tlc_jax.artifacts.artifact import WEIGHTS
from tlc_jax.config import Config

ENDS = "translation that ends"
LATER = 3
ALLOCATOR = ("GLIBC_TUNABLES", "MALLOC_MMAP_MAX_", "MALLOC_TRIM_THRESHOLD_")
SIZES: dict[str, dict[str, Config]] = {
    "encoder": {"2x64": made.encoder(2, 64), "large": made.encoder(12, 768)},
    "translation": {"2x64": made.translation(2, 64), "large": made.translation(8, 640)},
}
SIZES[ENDS] = SIZES["translation"]
_TRANSLATE = ["translate", "{artifact}"]
COMMANDS = {
    "evaluate": ("encoder", (2, 4, 8, 32), ["evaluate", "{artifact}", "--data.dir", "{text}", "--json"]),
    "translate --beams 1": (ENDS, (4, 32), [*_TRANSLATE, "--beams", "1"]),
    "translate": (ENDS, (4, 32), _TRANSLATE),
    "translate --beams 1, without end": ("translation", (4, 32), [*_TRANSLATE, "--beams", "1"]),
    "translate, without end": ("translation", (4, 32), _TRANSLATE),
}
LAUNCHER = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""
"""A small process that starts a command: the peak of a child is never below its parent's size."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    path = args.output.with_suffix(".json")
    result: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {**about(), "lines": {}}
    with tempfile.TemporaryDirectory() as folder:
        for name, (kind, each, command) in COMMANDS.items():
            for size, bits in (("2x64", 4), *(("large", bits) for bits in each)):
                key = f"{name}, {size}, {bits} bits"
                if key not in result["lines"]:
                    line = {"name": name, "size": size, "bits": bits, "commit": about()["commit"]}
                    measured = measure(Path(folder), kind, size, bits, command)
                    result["lines"][key] = {**line, **measured}
                    print(json.dumps(result["lines"][key]), flush=True)
                    path.write_text(json.dumps(result, indent=1) + "\n")
    args.output.with_suffix(".md").write_text(document(result))


def measure(folder: Path, kind: str, size: str, bits: int, command: list[str]) -> dict[str, Any]:
    """Bytes of the file and of the peak, and the number of weights."""
    artifact, text = folder / f"{kind}-{size}-{bits}".replace(" ", "-"), folder / "text"
    if not artifact.exists():
        made.write(artifact, SIZES[kind][size], bits, ends=kind == ENDS)
    if not text.exists():
        text.mkdir()
        documents = (made.text(150, seed) for seed in range(400))
        (text / "documents.txt").write_text("\n\n".join(documents), encoding="utf-8")
    words = [each.format(artifact=artifact, text=text) for each in command]
    with tempfile.TemporaryDirectory() as home:
        first, *later = (peak(words, Path(home)) for _ in range(1 + LATER))
    manifest = json.loads((artifact / "manifest.json").read_text(encoding="utf-8"))
    return {
        "weights": manifest["size"]["weights"],
        "file_bytes": (artifact / WEIGHTS).stat().st_size,
        "first_peak_bytes": first,
        "later_peak_bytes": statistics.median(later),
        "later_peaks": later,
    }


def peak(words: list[str], home: Path) -> int:
    """Bytes of the largest resident set of a command, whose caches are in `home`."""
    environment = {**os.environ, "HOME": str(home), "JAX_PLATFORMS": "cpu"}
    for name in ("JAX_COMPILATION_CACHE_DIR", *ALLOCATOR):
        environment.pop(name, None)
    lines = "\n".join(made.text(6, seed) for seed in range(8)) + "\n"
    call = [sys.executable, "-c", LAUNCHER, sys.executable, "-m", f"tlc_jax.{words[0]}", *words[1:]]
    done = subprocess.run(call, env=environment, input=lines, stdout=subprocess.PIPE, text=True, check=True)
    return int(done.stdout) * 1024


def document(result: dict[str, Any]) -> str:
    """The table for people."""
    lines = result["lines"].values()
    times = ("first_peak_bytes", "later_peak_bytes")
    commits = ", ".join(sorted({line["commit"] for line in lines}))
    base = {line["name"]: line for line in lines if line["size"] == "2x64"}
    text = (
        f"Commits {commits}, {result['date']}, on {result['machine']} (a CPU). Peak memory of a "
        "command, less that of the same command with an artifact of 2x64 at 4 bits, beside the file of the "
        "weights, in MB; and their ratio. Codes have a range for each 64 weights; 32 bits are float32, which "
        "every artifact was decoded to before its codes stayed packed. The first use of a command compiles "
        "its programs, later ones find them in the cache. `evaluate` computes "
        f"{made.ROWS} rows of {made.LENGTH} tokens at once, `translate` 8 lines: by default a beam of 4 "
        "keeps keys and values of 32 hypotheses, whatever the weights are. Where translations end at once, "
        "there is room for 32 tokens of each hypothesis (24 of a source and 8 more); where they never do, "
        "for 74 (50 more) beside it (rows *without end*)."
    )
    spread = max(max(line["later_peaks"]) - min(line["later_peaks"]) for line in lines)
    text += (
        f" 'First' is one start, whose peak is often that of compiling; 'later' the median of {LATER}, which "
        f"differ by {spread / 1e6:.0f} MB at most. Aimed at are 1.5 times the file, for the later use of 4 "
        "bits."
    )
    rows = []
    for line in lines:
        if line["size"] != "2x64":
            more = [line[each] - base[line["name"]][each] for each in times]
            file, weights = line["file_bytes"], line["weights"]
            cells = [
                f"{(line[each]) / 1e6:.0f} | {x / 1e6:.1f} | {x / file:.2f}"
                for each, x in zip(times, more, strict=True)
            ]
            about_it = f"`{line['name']}` | {weights / 1e6:.1f} M | {line['bits']} | {file / 1e6:.1f}"
            rows.append(f"| {about_it} | {' | '.join(cells)} |")
    columns = "peak, first use | less 2x64 | / file | peak, later | less 2x64 | / file"
    header = [f"| command | weights | bits | file | {columns} |", f"|{'---|' * 10}"]
    title = "# Memory at use of a compressed model"
    command = f"    {result['command']}"
    return "\n\n".join([title, command, textwrap.fill(text, 120), "\n".join([*header, *rows])]) + "\n"


if __name__ == "__main__":
    main()
