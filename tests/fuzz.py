"""`python -m tests.fuzz --mutations 2000 --output benchmarks/results/fuzz.json`: damaged and forged folders
through the readers behind inspect, evaluate, export and compress --hf.

Each mutation is a seed. Its command runs in a forked child of a process that has everything imported; what is
looked at: the exit code, a traceback, 20 seconds, 2 GB, and whether anything but --out was written. With
--quick only what needs no training is read. Exit code 1 if anything is not as it should be.
"""

from __future__ import annotations

import argparse
import collections
import datetime
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from tests.builders import documents, sentence_pairs
from tests.mutations import copy, mutate

SECONDS, MEMORY = 20.0, 2 << 30
AT_ONCE = 2
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
    Target("artifact of a folder with zstd, inspect", "hf_zstd", _with("inspect", "{input}", "--json"), 2),
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


@dataclass
class Outcomes:
    """What happened to the mutations of one target."""

    codes: collections.Counter[int] = field(default_factory=collections.Counter)
    faults: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0
    memory: int = 0


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mutations", type=int, default=2000)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", help="targets whose names begin so")
    parser.add_argument("--output", type=Path)
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="fuzz") as work:
        root = Path(work).resolve()
        os.environ |= {
            "HOME": f"{root}/home",
            "JAX_PLATFORMS": "cpu",
            "JAX_COMPILATION_CACHE_DIR": f"{root}/compiled",
        }
        os.environ |= {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "XLA_FLAGS": ""}
        make_samples(root / "samples", trained=not args.quick)
        targets = [
            one for one in QUICK + ([] if args.quick else TRAINED) if one.name.startswith(args.only or "")
        ]
        found = fuzz(root, targets, args.mutations, args.first_seed)
    report(found, args)
    if any(one.faults for one in found.values()):
        sys.exit(1)


# --- samples -----------------------------------------------------------------------------------------


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
    for name, options in {"artifact": [], "bitmap": ["--sparsity", "0.6"], "zstd": ["--zstd"]}.items():
        _command("compress", "--hf", f"{root}/hf", "--bits", "4", *options, "--out", f"{root}/hf_{name}")
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
        "--schedule.local-attention",
        "0",
        "--data.held-out",
        "0.1",
    ]
    _command(
        "train", *mlm, *FEW, "--model.max-positions", "64", DATA, f"{root}/text", "--workdir", f"{root}/mlm"
    )
    cls = ["--config", "finetune_sst2", *data, *FEW, "--init-from", f"{root}/mlm", "--data.held-out", "0.1"]
    _command("train", *cls, DATA, f"{root}/tables", "--workdir", f"{root}/cls")
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
    _command("train", *mt, *few, DATA, f"{root}/pairs", "--workdir", f"{root}/mt")
    _command("compress", "--checkpoint", f"{root}/cls", "--bits", "8", "--out", f"{root}/cls_artifact")
    (root / "tokenizer").mkdir()  # the file alone is mutated: the run around it is put there afterwards
    shutil.copy(root / "cls/tokenizer.json", root / "tokenizer/tokenizer.json")


def _command(*words: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", f"tlc_jax.{words[0]}", *words[1:]], capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)}: {done.stdout}{done.stderr}")


# --- mutations ---------------------------------------------------------------------------------------


@dataclass
class Job:
    target: Target
    seed: int
    folder: Path
    what: str
    before: dict[str, tuple[int, int]]
    process: int = 0
    began: float = 0.0
    memory: int = 0
    killed: str = ""


def fuzz(root: Path, targets: list[Target], mutations: int, first_seed: int) -> dict[str, Outcomes]:
    """`mutations` in all, spread over the targets by their shares."""
    _check_whole(root, targets)
    _warm()
    weights = [target for target in targets for _ in range(target.share)]
    found = {target.name: Outcomes() for target in targets}
    running: list[Job] = []
    for number in range(first_seed, first_seed + mutations):
        while len(running) >= AT_ONCE:
            running = _collected(running, found)
        running.append(_started(root, weights[number % len(weights)], number))
        if number % 100 == 99:
            print(f"{number + 1 - first_seed:,} of {mutations:,}", file=sys.stderr, flush=True)
    while running:
        running = _collected(running, found)
    return found


def _warm() -> None:
    """Import what the children need, but compute nothing: a child forked after XLA has started would wait for
    threads that it does not have."""
    from tlc_jax import compress, evaluate, export, inspect  # noqa: F401
    from tlc_jax.inference import compare_files, describe, evaluation, exporting  # noqa: F401
    from tlc_jax.recipes import compress_folder, compress_run, fidelity  # noqa: F401


def _prepared(root: Path, folder: Path, target: Target, seed: int | None) -> tuple[Path, str]:
    """A folder for one command: with a copy of its sample, which is mutated where there is a seed; and in
    words, how."""
    for name in ("out", "home/.cache", "tmp"):
        (folder / name).mkdir(parents=True)
    (folder / "samples").symlink_to(root / "samples")
    (folder / "home/.bashrc").write_text("mine\n", encoding="utf-8")
    sample = copy(root / "samples" / target.sample, folder / "in" / "model")
    what = "" if seed is None else mutate(sample, seed)
    if target.sample == "tokenizer":
        run = copy(root / "samples/cls", sample / "run")
        (run / "tokenizer.json").unlink()
        if os.path.lexists(sample / "tokenizer.json"):
            (sample / "tokenizer.json").rename(run / "tokenizer.json")
    return sample, what


def _check_whole(root: Path, targets: list[Target]) -> None:
    """Of what nothing is wrong with every command is right; and what it compiles is kept for the others."""
    for number, target in enumerate(targets):
        sample, _ = _prepared(root, root / f"whole-{number}", target, None)
        _command(*target.command(sample, root / f"whole-{number}/out"))


def _started(root: Path, target: Target, seed: int) -> Job:
    folder = root / f"job-{seed}"
    mutated, what = _prepared(root, folder, target, seed)
    words = target.command(mutated, folder / "out")
    job = Job(target, seed, folder, what, _tree(folder))
    words = target.command(mutated, folder / "out")
    job.began = time.monotonic()
    job.process = os.fork()
    if job.process == 0:
        _child(folder, words)
    return job


def _child(folder: Path, words: list[str]) -> None:
    import importlib

    code = 70
    try:
        os.chdir(folder)
        os.environ |= {"HOME": str(folder / "home"), "TMPDIR": str(folder / "tmp")}
        log = os.open(folder / "out" / "log", os.O_WRONLY | os.O_CREAT)
        nowhere = os.open(os.devnull, os.O_RDONLY)
        for descriptor, stream in ((nowhere, 0), (log, 1), (log, 2)):
            os.dup2(descriptor, stream)
        from tlc_jax.core.entry_point import run_command

        door = importlib.import_module(f"tlc_jax.{words[0]}")
        code = 0
        run_command(lambda: door.main(words[1:]))
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _collected(running: list[Job], found: dict[str, Outcomes]) -> list[Job]:
    """Waits a moment; those that still run."""
    time.sleep(0.02)
    left = []
    for job in running:
        process, status = os.waitpid(job.process, os.WNOHANG)
        if process:
            _judge(job, os.waitstatus_to_exitcode(status), found[job.target.name])
            shutil.rmtree(job.folder, ignore_errors=True)
            continue
        job.memory = max(job.memory, _resident(job.process))
        late = time.monotonic() - job.began > SECONDS
        if not job.killed and (late or job.memory > MEMORY):
            job.killed = f"over {SECONDS:g} s" if late else f"over {MEMORY / 2**30:g} GB"
            os.kill(job.process, 9)
        left.append(job)
    return left


def _judge(job: Job, code: int, outcomes: Outcomes) -> None:
    text = (job.folder / "out/log").read_text(encoding="utf-8", errors="replace")
    wrong = [job.killed] if job.killed else []
    if "Traceback (most recent call last)" in text:
        wrong.append("traceback")
    if code not in (0, 2) and not job.killed:
        wrong.append(f"exit code {code}")
    if code == 2 and "error" not in text.lower():
        wrong.append("nothing said")
    if "\x1b" in text:
        wrong.append("a terminal escape")
    after = _tree(job.folder)
    if changed := [
        name for name in job.before.keys() | after.keys() if job.before.get(name) != after.get(name)
    ]:
        wrong.append(f"written outside --out: {', '.join(sorted(changed)[:3])}")
    outcomes.codes[code] += 1
    outcomes.seconds = max(outcomes.seconds, time.monotonic() - job.began)
    outcomes.memory = max(outcomes.memory, job.memory)
    if wrong:
        last = text.strip().splitlines()[-8:]
        outcomes.faults.append({"seed": job.seed, "what": job.what, "wrong": wrong, "last": last})
        print(
            f"{job.target.name}, seed {job.seed}: {job.what}: {'; '.join(wrong)}\n  " + "\n  ".join(last),
            file=sys.stderr,
        )


def _tree(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of every file that a command has no business with."""
    found = {}
    for parent, folders, names in os.walk(folder):
        folders[:] = [
            name
            for name in folders
            if Path(parent, name) not in (folder / "out", folder / "tmp") and name != ".cache"
        ]
        for name in (*names, *folders):
            about = Path(parent, name).lstat()
            found[str(Path(parent, name).relative_to(folder))] = (about.st_size, about.st_mtime_ns)
    return found


def _resident(process: int) -> int:
    try:
        pages = int(Path(f"/proc/{process}/statm").read_text(encoding="ascii").split()[1])
    except (OSError, IndexError, ValueError):  # it has just ended
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def report(found: dict[str, Outcomes], args: argparse.Namespace) -> None:
    rows = {
        name: {
            "mutations": one.codes.total(),
            "exit codes": {str(code): count for code, count in sorted(one.codes.items())},
            "longest seconds": round(one.seconds, 1),
            "largest MB": round(one.memory / 1e6),
            "faults": one.faults,
        }
        for name, one in found.items()
    }
    for name, row in rows.items():
        print(
            f"{name}: {row['mutations']} mutations, exit codes {row['exit codes']}, at most "
            f"{row['longest seconds']} s, {row['largest MB']} MB, {len(row['faults'])} faults"
        )
    if args.output:
        about = {
            "command": " ".join(["python -m tests.fuzz", *sys.argv[1:]]),
            "commit": subprocess.run(
                ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True
            ).stdout.strip(),
            "date": datetime.date.today().isoformat(),
            "python": platform.python_version(),
            "targets": rows,
        }
        args.output.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
