"""What tests/fuzz.py damages: small folders, and the commands that read them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from tests.builders import documents, sentence_pairs

SMALL = "--model.num-layers 1 --model.hidden-size 64 --model.vocab-size 400 --schedule.follows steps".split()


FEW = "--budget.training-seconds None --budget.steps 2 --batch-size 8".split()


Command = Callable[[Path, Path], list[str]]


@dataclass(frozen=True)
class Target:
    """A folder that is mutated, and the command that reads it: of (the mutated folder, a folder for what is
    written)."""

    name: str
    sample: str
    command: Command
    share: int


def _with(*words: str) -> Command:
    """{input} and {out} are the folders, {samples} where whole ones are."""
    return lambda folder, out: [
        word.format(input=folder, out=out, samples=folder.parent.parent / "samples") for word in words
    ]


QUICK = [
    Target("artifact of a folder, inspect", "hf_artifact", _with("inspect", "{input}"), 3),
    Target(
        "artifact of a folder with brotli, inspect", "hf_brotli", _with("inspect", "{input}", "--json"), 2
    ),
    Target(
        "artifact of a folder, export",
        "hf_bitmap",
        _with("export", "--checkpoint", "{input}", "--format", "huggingface", "--out", "{out}/x"),
        2,
    ),
    Target(
        "artifact of a folder, export codes",
        "hf_artifact",
        _with("export", "--checkpoint", "{input}", "--format", "compressed-tensors", "--out", "{out}/x"),
        2,
    ),
    Target(
        "safetensors folder", "hf", _with("compress", "--hf", "{input}", "--bits", "4", "--out", "{out}/x"), 4
    ),
    Target(
        "encoder of transformers, train",
        "bert",
        _with(
            *("train", "--config", "quickstart", "--init-from", "hf:{input}"),
            *("--workdir", "{out}/x", "--dry-run"),
        ),
        3,
    ),
]


DATA = "--data.dir"


TRAINED = [
    Target(
        "artifact of a classifier, evaluate",
        "cls_artifact",
        _with("evaluate", "--checkpoint", "{input}", DATA, "{samples}/tables"),
        3,
    ),
    Target(
        "artifact of a classifier, export",
        "cls_artifact",
        _with("export", "--checkpoint", "{input}", "--format", "huggingface", "--out", "{out}/x"),
        2,
    ),
    Target("run directory of a language model", "mlm", _with("evaluate", "--checkpoint", "{input}"), 3),
    Target("run directory of a classifier", "cls", _with("evaluate", "--checkpoint", "{input}"), 3),
    Target("run directory of a translation", "mt", _with("evaluate", "--checkpoint", "{input}"), 2),
    Target(
        "tokenizer",
        "tokenizer",
        _with("evaluate", "--checkpoint", "{input}/run", DATA, "{samples}/tables"),
        3,
    ),
    Target(
        "table",
        "tables",
        _with("evaluate", "--checkpoint", "{samples}/cls", DATA, "{input}", "--predictions", "{out}/p.jsonl"),
        4,
    ),
    Target("pair table", "pairs", _with("evaluate", "--checkpoint", "{samples}/mt", DATA, "{input}"), 3),
]


def make_samples(root: Path, trained: bool) -> None:
    root.mkdir(parents=True)
    rng = np.random.default_rng(0)
    shapes = {"a.weight": (64, 32), "b.weight": (32, 64), "b.bias": (32,), "types.weight": (2, 64)}
    weights: dict[str, Any] = {
        name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()
    }
    (root / "hf").mkdir()
    safetensors.numpy.save_file({**weights, "positions": np.arange(8)}, root / "hf/model.safetensors")
    (root / "hf/config.json").write_text('{"model_type": "x", "sizes": [1, 2]}', encoding="utf-8")
    for name, options in {
        "artifact": [],
        "bitmap": ["--sparsity", "0.6"],
        "brotli": ["--coding", "brotli"],
    }.items():
        run_command("compress", "--hf", f"{root}/hf", "--bits", "4", *options, "--out", f"{root}/hf_{name}")
    # in a process of its own, since it computes
    subprocess.run([sys.executable, "-m", "tests.pretrained_folders", str(root / "bert")], check=True)
    if trained:
        _trained_samples(root)


def _trained_samples(root: Path) -> None:
    for name in ("text", "tables", "pairs"):
        (root / name).mkdir()
    texts = documents(60)
    (root / "text/a.txt").write_text("\n\n".join(texts), encoding="utf-8")
    for name, part in (("train", texts[:40]), ("validation", texts[40:])):
        lines = [line for text in part for line in text.splitlines()[1:]]
        rows = "".join(f"{line}\t{'ab'[len(line) % 2]}\n" for line in lines)
        (root / f"tables/{name}.tsv").write_text(f"text\tlabel\n{rows}", encoding="utf-8")
    for seed, (name, count) in enumerate((("train", 200), ("val", 20))):
        pairs = "".join(f"{one}\t{other}\n" for one, other in sentence_pairs(count, seed))
        (root / f"pairs/{name}.tsv").write_text(pairs, encoding="utf-8")
    data = ["--data.name", "files", "--data.sequence-length", "32", "--schedule.follows", "steps"]
    mlm = [
        "--config",
        "quickstart",
        *data,
        *SMALL,
        "--schedule.local-attention-tokens",
        "None",
        "--data.held-out",
        "0.1",
    ]
    run_command(
        "train", *mlm, *FEW, "--model.max-positions", "64", DATA, f"{root}/text", "--workdir", f"{root}/mlm"
    )
    cls = ["--config", "finetune_sst2", *data, *FEW, "--init-from", f"{root}/mlm", "--data.held-out", "0.1"]
    run_command("train", *cls, DATA, f"{root}/tables", "--workdir", f"{root}/cls")
    sets = [
        "--data.train",
        "train.tsv",
        "--data.validation",
        "val.tsv",
        "--data.test",
        "",
        "--data.max-shapes",
        "1",
    ]
    mt = [
        "--config",
        "translate_small",
        *SMALL,
        *sets,
        "--data.sequence-length",
        "32",
        "--task.bleu-sentences",
        "0",
    ]
    few = [*FEW[:-2], "--batch-size", "256"]
    run_command("train", *mt, *few, DATA, f"{root}/pairs", "--workdir", f"{root}/mt")
    run_command("compress", "--checkpoint", f"{root}/cls", "--bits", "8", "--out", f"{root}/cls_artifact")
    (root / "tokenizer").mkdir()  # the file alone is mutated: the run around it is put there afterwards
    shutil.copy(root / "cls/tokenizer.json", root / "tokenizer/tokenizer.json")


def run_command(*words: str) -> None:
    """Runs a command of tlc_jax in a process of its own; RuntimeError where it fails."""
    done = subprocess.run(
        [sys.executable, "-m", f"tlc_jax.{words[0]}", *words[1:]], capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)}: {done.stdout}{done.stderr}")
