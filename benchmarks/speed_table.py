"""The table of benchmarks/run.sh: every speed beside its peers, and the memory of compressed models.

    python benchmarks/speed_table.py OUT

Reads what the other scripts wrote into OUT, and notes.md if there is one, and writes OUT/speed.md. "Ours is
as fast" is the seconds of a peer over ours: medians, and in brackets 95 % over the rounds (Student's t of
the logarithm of each round's ratio; the seconds of one round are compared with each other). An aim is
reached or missed where the interval (of memory: every single start) says so.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tlc_jax.studies.statistics import interval

NAMES = {
    "huggingface": "Hugging Face {transformers}, PyTorch {torch}",
    "huggingface_gathered": "the same, its head for the predicted positions only",
    "huggingface_compiled": "Hugging Face {transformers}, PyTorch {torch}, compiled",
    "huggingface_gathered_compiled": "the same, its head for the predicted positions only",
    "ctranslate2_float32": "CTranslate2 {ctranslate2}, float32",
    "ctranslate2_float32_apart": "CTranslate2 {ctranslate2}, float32, a batch for each core",
    "ctranslate2_int8": "CTranslate2 {ctranslate2}, int8",
    "ctranslate2_int8_apart": "CTranslate2 {ctranslate2}, int8, a batch for each core",
    "tlc_jax_before": "ours before, commit {before}",
}
AIMS = {
    ("update", "12x768x4", "huggingface"): 1.4,
    ("translate", "beam_1", "ctranslate2_float32"): 1.1,
    ("translate", "beam_1", "ctranslate2_float32_apart"): 1.1,
    ("translate", "beam_4", "ctranslate2_float32"): 1.1,
    ("translate", "beam_4", "ctranslate2_float32_apart"): 1.1,
}
MEMORY_AIM, LOGITS_AIM = 1.5, 1e-6
Row = tuple[str, ...]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    names = ("train_step", "translate", "packed_speed", "packed_logits", "memory_at_use")
    files = {name: folder / f"{name}.json" for name in names}
    results = {name: json.loads(file.read_text("utf-8")) for name, file in files.items() if file.exists()}
    if not results:
        parser.error(f"{folder} has none of {', '.join(file.name for file in files.values())}")
    notes = folder / "notes.md"
    said = [notes.read_text("utf-8").strip()] if notes.exists() else []
    text = "\n\n".join(["# Speed and memory beside peers", made(results), *tables(results), *said])
    (folder / "speed.md").write_text(text + "\n", encoding="utf-8")


def made(results: dict[str, Any]) -> str:
    """How and where the numbers were made."""
    text = (
        "Engines take turns on the same cores; medians, and in brackets 95 % over the rounds of each round's "
        "ratio. Parts of the table, which `run.sh` repeats one by one:"
    )
    parts = [
        f"* {name}: `{each['command']}`, {commits(each)}, {each['date']}, {each['machine']}"
        for name, each in results.items()
    ]
    return "\n".join(["    bash benchmarks/run.sh OUT", "", textwrap.fill(text, 120), "", *parts])


def commits(result: dict[str, Any]) -> str:
    """That of the result, or those of its lines where each has its own."""
    lines = result.get("lines")
    each = {line["commit"] for line in lines.values()} if isinstance(lines, dict) else {result["commit"]}
    return f"commit{'s' if len(each) > 1 else ''} {' and '.join(sorted(each))}"


def tables(results: dict[str, Any]) -> Iterator[str]:
    rows = [
        *(updates(results["train_step"]) if "train_step" in results else ()),
        *(translations(results["translate"]) if "translate" in results else ()),
        *(packed(results["packed_speed"]) if "packed_speed" in results else ()),
    ]
    if rows:
        yield table(("", "beside", "ours, s", "theirs, s", "ours is as fast, times", "aim"), rows)
    if "packed_logits" in results:
        yield logits(results["packed_logits"]["difference"])
    if "memory_at_use" in results:
        yield "Memory above that of 2x64, in MB; the first use compiles, later ones read what it compiled:"
        columns = ("command", "weights", "bits", "file", "first use", "/ file", "later", "/ file", "aim")
        yield table(columns, list(memory(results["memory_at_use"])))


def updates(result: dict[str, Any]) -> Iterator[Row]:
    versions = {k: v for engine in result["engines"].values() for k, v in engine.items()}
    for size, measured in result["sizes"].items():
        for peer in list(measured["seconds"])[1:]:
            what = f"an update, layers x width x rows {size}, {result['dtype']}"
            yield compared(("update", size, peer), what, measured["seconds"], versions)


def translations(result: dict[str, Any]) -> Iterator[Row]:
    for beams, what in (("beam_1", "greedily"), ("beam_4", "with a beam of 4")):
        if beams not in result:  # interrupted
            continue
        for peer in list(result[beams]["seconds"])[1:]:
            same = result[beams]["same_lines_as_ours"][peer]
            about = f"{result['lines']} lines translated {what}, {same} alike"
            yield compared(("translate", beams, peer), about, result[beams]["seconds"], result["versions"])


def packed(result: dict[str, Any]) -> Iterator[Row]:
    for command in ("evaluate", "translate --beams 1", "translate"):
        if command not in result:
            continue
        seconds = result[command]["seconds"]
        both = {"tlc_jax": seconds["packed"], "float32": seconds["float32"]}
        yield compared(("packed", command, "float32"), f"a batch of `{command}`, 4 bits packed", both, {})


def logits(difference: dict[str, float]) -> str:
    """How far those of packed weights are from those of the same weights in float32."""
    most = difference["float32"]
    text = (
        f"Logits of packed weights differ from those of the same weights in float32 by at most {most:.1e} of "
        f"the largest (aim {LOGITS_AIM:g}, {'reached' if most <= LOGITS_AIM else 'missed'})"
    )
    exact, float32 = (difference[f"{name} from float64"] for name in ("packed", "float32"))
    text += (
        f"; from those in float64 by {exact:.2e}, and those of float32 by {float32:.2e}; in bfloat16 by "
        f"{difference['bfloat16']:.3f}, where bfloat16 differs from float32 by "
        f"{difference['bfloat16 from float32']:.3f}."
    )
    return textwrap.fill(text, 120)


def compared(key: tuple[str, str, str], what: str, seconds: dict[str, list[float]], versions: Any) -> Row:
    """A row, of the seconds of each round."""
    ours, theirs = (np.array(seconds[name]) for name in ("tlc_jax", key[2]))
    medians = statistics.median(ours), statistics.median(theirs)
    covered = interval(np.log(theirs / ours))
    low, high = (0.0, math.inf) if covered is None else map(math.exp, covered)
    ends = "" if covered is None else f" [{low:.2f}, {high:.2f}]"
    aim = AIMS.get(key)
    verdict = "not resolved" if aim is None or low < aim <= high else "reached" if low >= aim else "missed"
    return (
        what,
        NAMES.get(key[2], "the same weights in float32").format(**versions),
        *(f"{median:.3f}" for median in medians),
        f"{medians[1] / medians[0]:.2f}{ends}",
        "" if aim is None else f"{aim}, {verdict}",
    )


def memory(result: dict[str, Any]) -> Iterator[Row]:
    base = {line["name"]: line for line in result["lines"].values() if line["size"] == "2x64"}
    for line in result["lines"].values():
        if line["size"] != "2x64":
            first, later = (
                line[name] - base[line["name"]][name] for name in ("first_peak_bytes", "later_peak_bytes")
            )
            aim, peaks = (
                MEMORY_AIM * line["file_bytes"],
                (line["later_peaks"], base[line["name"]]["later_peaks"]),
            )
            low, high = min(peaks[0]) - max(peaks[1]), max(peaks[0]) - min(peaks[1])
            verdict = "reached" if high <= aim else "missed" if low > aim else "not resolved"
            yield (
                f"`{line['name']}`",
                f"{line['weights'] / 1e6:.1f} M",
                str(line["bits"]),
                f"{line['file_bytes'] / 1e6:.1f}",
                *(
                    f"{more / unit:.{digits}f}"
                    for more in (first, later)
                    for unit, digits in ((1e6, 1), (line["file_bytes"], 2))
                ),
                f"{MEMORY_AIM} later, {verdict}" if line["bits"] == 4 else "",
            )


def table(columns: Row, rows: list[Row]) -> str:
    lines = [columns, ("---",) * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    main()
