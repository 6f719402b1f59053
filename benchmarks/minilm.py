"""How near do compressed sentence embeddings stay to the float32 model's? all-MiniLM-L6-v2, in one run.

    python benchmarks/minilm.py --model MODEL --tfds TFDS --wikipedia SHARD --output docs/results/minilm

MODEL is the folder of sentence-transformers/all-MiniLM-L6-v2, SHARD a .txt.zst file. Every method quantizes
the same 40 matrices (all embeddings and all linear layers); vectors stay float32 but for the two lines of our
defaults for runs.
Embeddings are means over tokens, of length 1, as the model's 1_Pooling and modules.json say; the cosine to
float32's is a mean over SST-2's 872 validation sentences and over as many sentences of Wikipedia. Writes
OUTPUT.jsonl (a line a method) and OUTPUT.md; the same command goes on where it was interrupted. Needs torch,
transformers, gguf, bitsandbytes and optimum-quanto; methods whose library is not there are left out.

Cost: about 15 minutes on 2 idle CPU cores.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import io
import json
import re
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import tensorflow_datasets as tfds
import torch
import transformers
from about import about
from rich.console import Console

from tlc_jax.artifacts.artifact import WEIGHTS, read_artifact
from tlc_jax.artifacts.checkpoint_folder import CheckpointFolder
from tlc_jax.compression.weight_errors import ratio, squares
from tlc_jax.config.compression import OF_FOLDERS, CompressConfig
from tlc_jax.core.leaf import to_dense
from tlc_jax.recipes.compress_folder import compress_folder

GRANULARITIES = dict.fromkeys((8, 6, 5, 4, 3, 2), ("row", "group:64"))
GRANULARITIES |= {4: ("row", "group:128", "group:64", "group:32")}
SENTENCES, BATCH, LONGEST = 872, 64, 256  # tokens, as sentence_bert_config.json has it
THREADS = 4
LIBRARIES = {"bitsandbytes": "bitsandbytes", "gguf": "gguf", "optimum-quanto": "optimum.quanto"}

Arrays = dict[str, np.ndarray]
Method = tuple[str, Callable[[Arrays], tuple[Arrays, int]]]
"""A name, and what it makes of the tensors: their values, and the bytes of the weights."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("model", "tfds", "wikipedia", "output"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    args = parser.parse_args()
    store = args.output.with_suffix(".jsonl")
    lines = store.read_text(encoding="utf-8").splitlines() if store.exists() else []
    rows = {row["method"]: row for row in map(json.loads, lines)}
    there = {"float32": unchanged, **dict(methods(args.model))}
    if missing := [name for name in there if name not in rows]:
        for row in measured(args, {name: there[name] for name in missing}):
            rows[row["method"]] = row
            with store.open("a", encoding="utf-8") as file:
                file.write(f"{json.dumps(row)}\n")
            print(json.dumps(row), flush=True)
    given = " ".join(f"--{name} {value.name}" for name, value in vars(args).items() if name != "output")
    command = f"python benchmarks/minilm.py {given} --output {args.output}"
    text = markdown(command, [rows[name] for name in there])
    args.output.with_suffix(".md").write_text(text, encoding="utf-8")


def measured(
    args: argparse.Namespace, chosen: dict[str, Callable[[Arrays], tuple[Arrays, int]]]
) -> Iterator[dict[str, Any]]:
    texts = {"SST-2": sst2(args.tfds), "Wikipedia": wikipedia(args.wikipedia)}
    embedder = Embedder(args.model)
    source = dict(CheckpointFolder(args.model).items())
    dense = {name: embedder(source, own) for name, own in texts.items()}
    for name, method in chosen.items():
        values, size = method(source)
        found = {corpus: embedder(values, own) for corpus, own in texts.items()}
        yield row_of(name, source, values, size, dense, found)


def methods(folder: Path) -> Iterator[Method]:
    yield (
        "ours, 4 bits, one range a tensor, min/max, zero nudged (default for runs)",
        ours(folder, CompressConfig(bits=4)),
    )
    old = CompressConfig(bits=6, sparsity=0.45)
    yield "ours, 6 bits, 45 % pruned, one range a tensor, min/max, zero nudged", ours(folder, old)
    for bits, granularities in GRANULARITIES.items():
        for granularity in granularities:
            config = CompressConfig(bits=bits, granularity=granularity, range="mse", matrices_only=True)
            chosen = " (default)" if granularity == OF_FOLDERS.granularity else ""
            yield f"ours, {bits} bits, {granularity}{chosen}", ours(folder, config)
    if is_there("bitsandbytes"):
        yield "bitsandbytes nf4, groups of 64", of_matrices(nf4(nested=False))
        yield "bitsandbytes nf4, groups of 64, double quantization", of_matrices(nf4(nested=True))
    if is_there("gguf"):
        for kind in ("Q8_0", "Q4_0"):
            yield f"GGUF {kind}", of_matrices(gguf_blocks(kind))
    if is_there("optimum.quanto"):
        for kind in ("qint8", "qint4", "qint2"):
            yield f"optimum-quanto {kind}", of_matrices(quanto(kind))


def unchanged(source: Arrays) -> tuple[Arrays, int]:
    return source, 4 * sum(x.size for x in floats(source).values())


def ours(folder: Path, config: CompressConfig) -> Callable[[Arrays], tuple[Arrays, int]]:
    """Bytes are those of the artifact's file of weights, with its header and its integer tensors."""

    def compressed(source: Arrays) -> tuple[Arrays, int]:
        with tempfile.TemporaryDirectory() as place:
            out = Path(place) / "out"
            compress_folder(folder, config, out, Console(quiet=True))
            values = to_dense(read_artifact(out).tensors)
            return {name: np.asarray(x) for name, x in values.items()}, (out / WEIGHTS).stat().st_size

    return compressed


def of_matrices(
    quantize: Callable[[np.ndarray], tuple[np.ndarray, int]],
) -> Callable[[Arrays], tuple[Arrays, int]]:
    """Matrices by a function that gives values and bytes; 4 bytes for each other weight."""

    def quantized(source: Arrays) -> tuple[Arrays, int]:
        values, size = dict(source), 0
        for name, x in floats(source).items():
            values[name], own = quantize(x) if x.ndim == 2 else (x, x.nbytes)
            size += own
        return values, size

    return quantized


def nf4(nested: bool) -> Callable[[np.ndarray], tuple[np.ndarray, int]]:
    from bitsandbytes import functional

    def quantize(x: np.ndarray) -> tuple[np.ndarray, int]:
        codes, state = functional.quantize_4bit(
            torch.tensor(x), blocksize=64, quant_type="nf4", compress_statistics=nested
        )
        size = codes.nbytes + state.absmax.nbytes
        size += state.state2.absmax.nbytes + 4 if nested else 0
        return functional.dequantize_4bit(codes, state).numpy(), size

    return quantize


def gguf_blocks(kind: str) -> Callable[[np.ndarray], tuple[np.ndarray, int]]:
    from gguf import GGMLQuantizationType, quants

    def quantize(x: np.ndarray) -> tuple[np.ndarray, int]:
        blocks = quants.quantize(x, GGMLQuantizationType[kind])
        return quants.dequantize(blocks, GGMLQuantizationType[kind]), blocks.nbytes

    return quantize


def quanto(kind: str) -> Callable[[np.ndarray], tuple[np.ndarray, int]]:
    """As its layers do: rows at 8 bits, groups of 128 below."""
    from optimum.quanto import AbsmaxOptimizer, MaxOptimizer, qtypes, quantize_weight

    def quantize(x: np.ndarray) -> tuple[np.ndarray, int]:
        weight, bits = torch.tensor(x), qtypes[kind].bits
        if bits == 8:
            scale = AbsmaxOptimizer()(weight, qtypes[kind], 0)
            found, ranges = quantize_weight(weight, qtypes[kind], 0, scale, optimized=False), scale.nbytes
        else:
            scale, shift = MaxOptimizer()(weight, qtypes[kind], 0, 128)
            found = quantize_weight(weight, qtypes[kind], 0, scale, shift, 128, optimized=False)
            ranges = scale.nbytes + shift.nbytes
        return found.dequantize().numpy(), x.size * bits // 8 + ranges

    return quantize


class Embedder:
    """Sentence embeddings [sentences, hidden] of length 1, by tensors in place of the model's own."""

    def __init__(self, folder: Path):
        self._model = transformers.AutoModel.from_pretrained(folder).eval()
        torch.set_num_threads(1)  # batches are computed side by side
        self._tokenizer = transformers.AutoTokenizer.from_pretrained(folder)

    def __call__(self, arrays: Arrays, texts: list[str]) -> np.ndarray:
        state = {name: torch.tensor(x) for name, x in arrays.items() if name in self._model.state_dict()}
        self._model.load_state_dict(state)
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        batches = [order[start : start + BATCH] for start in range(0, len(order), BATCH)]
        how = {"padding": True, "truncation": True, "max_length": LONGEST, "return_tensors": "pt"}
        tokens = [self._tokenizer([texts[i] for i in places], **how) for places in batches]
        found = np.empty((len(texts), self._model.config.hidden_size), np.float32)
        with ThreadPoolExecutor(THREADS) as pool:
            for places, embedded in zip(batches, pool.map(self._embedded, tokens), strict=True):
                found[places] = embedded
        return found

    def _embedded(self, batch: Any) -> np.ndarray:
        with torch.inference_mode():
            tokens = self._model(**batch).last_hidden_state
        weights = batch["attention_mask"][..., None].float()
        mean = (tokens * weights).sum(1) / weights.sum(1)
        return torch.nn.functional.normalize(mean, dim=1).numpy()


def sst2(folder: Path) -> list[str]:
    rows: Any = tfds.data_source("glue/sst2", split="validation", data_dir=folder, download=False)
    texts = [row["sentence"].decode() for row in rows]
    assert len(texts) == SENTENCES
    return texts


def wikipedia(path: Path) -> list[str]:
    """The first sentences of 40 to 300 characters of a file of articles."""
    found: list[str] = []
    with pyarrow.input_stream(path, compression="zstd") as stream:
        for line in io.TextIOWrapper(stream, encoding="utf-8"):
            sentences = re.split(r"(?<=[.!?])\s+(?=[A-Z])", line.strip())
            found += [text for text in sentences if 40 <= len(text) <= 300 and text[-1] in ".!?"]
            if len(found) >= SENTENCES:
                break
    return found[:SENTENCES]


def row_of(
    name: str, source: Arrays, values: Arrays, size: int, dense: Arrays, found: Arrays
) -> dict[str, Any]:
    change, whole = zip(*(squares(x, values[name]) for name, x in floats(source).items()), strict=True)
    cosines = {f"cosine {corpus}": float((x * dense[corpus]).sum(1).mean()) for corpus, x in found.items()}
    return {"method": name, "bytes": size, "relative error": ratio(sum(change), sum(whole)), **cosines}


def markdown(command: str, rows: list[dict[str, Any]]) -> str:
    there = {name: is_there(module) for name, module in LIBRARIES.items()}
    versions = [f"{name} {importlib.metadata.version(name)}" for name, here in there.items() if here]
    versions += [f"{name} is not installed" for name, here in there.items() if not here]
    result = about()
    about_it = f"""Commit {result["commit"]}, {result["date"]}, on {result["machine"]}; {", ".join(versions)}.
        Every method quantizes the same 40 matrices, half of whose weights are embeddings; other weights are
        float32, but for the first two lines of ours. Bytes: of ours, the artifact's whole file of weights;
        of the others, codes and ranges of the matrices, and 4 bytes for each other weight. The relative
        error is that of all weights; the cosine, to the embeddings of float32, is a mean over SST-2's 872
        validation sentences and over as many of Wikipedia. Ranges of ours are of least squares where
        nothing else is said."""
    lines = ["# Compressed sentence embeddings: all-MiniLM-L6-v2", "", f"    {command}", ""]
    lines += [*textwrap.wrap(" ".join(about_it.split()), 110), ""]
    lines += [
        "| method | bytes | relative error | cosine, SST-2 | cosine, Wikipedia |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {own['method']} | {own['bytes']:,} | {own['relative error']:.4f} | {own['cosine SST-2']:.4f} | "
        f"{own['cosine Wikipedia']:.4f} |"
        for own in rows
    ]
    return "\n".join([*lines, ""])


def floats(arrays: Arrays) -> Arrays:
    return {name: x for name, x in arrays.items() if x.dtype.kind == "f"}


def is_there(module: str) -> bool:
    return importlib.util.find_spec(module.partition(".")[0]) is not None


if __name__ == "__main__":
    main()
