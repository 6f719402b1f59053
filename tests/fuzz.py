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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.fuzz_samples import QUICK, TRAINED, Target, make_samples, run_command
from tests.mutations import copy, mutate

SECONDS, MEMORY = 20.0, 2 << 30
AT_ONCE = 2


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
        run_command(*target.command(sample, root / f"whole-{number}/out"))


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
