"""Writes artifacts.json: digests of what `compress` wrote at commit ff6570d, of a small checkpoint and of the
runs in d21cde9/.

    python -m tests.golden.make_artifacts

Ranges of least squares are left out: their sums depend on the processor.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from tests.golden import make_d21cde9
from tlc_jax import compress
from tlc_jax.config import renamed

CASES = {
    "eight bits": "--bits 8 --range minmax --granularity tensor",
    "rows, pruned": "--bits 6 --range minmax --granularity row --sparsity 0.45",
    "groups": "--bits 4 --range percentile:1 --granularity group:8 --no-matrices-only --scope layer "
    "--sparsity 0.3",
    "float zero": "--bits 5 --range minmax --granularity tensor --zero float --sparsity 0.6 --scope tensor",
    "capped, zstd": "--bits 3 --range minmax --granularity group:4 --sparsity 0.7 --coding zstd "
    "--max-tensor-sparsity 0.75",
    "pruned only": "--bits 32 --sparsity 0.5",
    "as it is": "--bits 32 --coding zstd",
}
RUNS = ("encoder-rows", "encoder-heads", "translation-groups")
"""Names in ARTIFACTS of make_d21cde9.py; the ranges of rows have changed since."""
SHAPES = {
    "a.weight": (24, 16),
    "b.weight": (10, 12),
    "c.weight": (5, 7),
    "a.bias": (24,),
    "d.weight": (3, 4, 8),
}


def checkpoint(folder: Path) -> Path:
    """Matrices, vectors, a scalar, integers, rows that groups do not divide, and ties among magnitudes."""
    rng = np.random.default_rng(0)
    tensors = {name: rng.standard_t(3, size=x).round(2).astype(np.float32) for name, x in SHAPES.items()}
    tensors |= {"empty.weight": np.zeros((0, 4), np.float32), "scale": np.array(2.5, np.float32)}
    tensors |= {"positions": np.arange(12).reshape(1, 12), "half.weight": tensors["a.weight"].astype("f2")}
    folder.mkdir(parents=True)
    safetensors.numpy.save_file(tensors, folder / "model.safetensors")
    return folder


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of the weights' file and of the manifest, whose keys stay in their order, without the program's
    version and the last digits of relative errors, which depend on the processor."""
    manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    del manifest["made_by"], manifest["digest"], manifest["recipe"]  # the recipe is newer
    manifest.pop("training", None)  # newer, too
    manifest["files"].pop("config.json", None)  # configs get new fields
    options = manifest["compression"]
    options["zstd"] = options.pop("coding") == "zstd"  # as it was called then
    for name in renamed.ADDED["CompressConfig"]:
        del options[name]
    for entry in (manifest, *manifest["tensors"].values()):
        entry["relative_error"] = float(f"{entry['relative_error']:.4g}")
        if "why" in entry:
            entry["why"] = entry["why"].replace("a scalar", "a vector")  # as it was called then
    weights = (folder / "model.safetensors").read_bytes()
    contents = {"weights": weights, "manifest": json.dumps(manifest).encode()}
    return {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}


def written(case: str, folder: Path) -> dict[str, str]:
    """Digests of the artifact of a case, which is written into a new folder below this one."""
    source, out = checkpoint(folder / "checkpoint"), folder / "artifact"
    compress.main(["--hf", str(source), *CASES[case].split(), "--out", str(out)])
    return digests(out)


def written_of_run(name: str, folder: Path) -> dict[str, str]:
    """Digests of the artifact of a run, which is written into a new folder below this one."""
    with contextlib.chdir(make_d21cde9.unpacked(folder / "work")):
        compress.main(["--checkpoint", *make_d21cde9.ARTIFACTS[name].split(), "--out", "again"])
        return digests(Path("again"))


def main() -> None:
    all_digests = {}
    for name in (*CASES, *RUNS):
        with tempfile.TemporaryDirectory() as folder:
            all_digests[name] = (written if name in CASES else written_of_run)(name, Path(folder))
    text = json.dumps(all_digests, indent=1)
    Path(__file__).with_name("artifacts.json").write_text(f"{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
