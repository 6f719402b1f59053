"""Writes tests/golden/d21cde9: run directories and artifacts as commit d21cde9 wrote them, and golden.json:
what that commit found in them. The texts are drawn here, from words of a small vocabulary.

git worktree add --detach OLD d21cde9
JAX_PLATFORMS=cpu PYTHONPATH=OLD python tests/golden/make_d21cde9.py

A run is left where a kill ten updates before its end would leave it: what came later is removed. All paths
that it stores are relative to the folder with its data, but for those that Orbax writes into
commit_success.txt: to name no machine, all is made in a folder at the root, /d21cde9, and then moved. Runs
and artifacts are kept as archives, of which `unpacked` makes folders again.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

COMMIT = "d21cde9"
FOLDER = Path(__file__).with_name(COMMIT)
STEPS = {"encoder": 150, "classifier": 150, "translation": 800}  # updates that the runs are kept with
RESUMED = 10  # updates to the end of each
ARCHIVES = ("encoder", "classifier", "translation", "rounds", "artifacts")
DATA = {"encoder": "text", "classifier": "tables", "translation": "pairs", "rounds/pruned-30": "tables"}
MORE = {"classifier": ["--init-from", "encoder"]}
MODELS = ("encoder", "encoder@1/8", "encoder@last2", "classifier", "translation", "rounds/pruned-30")
ARTIFACTS = {  # what compress is asked for, after --checkpoint
    "encoder-rows": "encoder --bits 6 --granularity row --sparsity 0.45",
    "encoder-sparse": "encoder@1/8 --bits 4 --granularity group:8 --range mse --sparsity 0.8 --zstd "
    "--matrices-only",
    "encoder-heads": "encoder --bits 5 --zero float --heads 1 --feed-forward-size 16",
    "translation-groups": "translation --bits 4 --granularity group:8 --range percentile:1 --scope layer "
    "--sparsity 0.2",
    "classifier-rounds": "classifier --config configs/rounds.py --workdir rounds",
}


def digests(tree: Any) -> dict[str, str]:
    """Of each leaf of a tree of arrays, by its path: type, shape and SHA-256 of its bytes."""
    import jax

    found = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        x = np.asarray(leaf)
        digest = hashlib.sha256(np.ascontiguousarray(x).tobytes()).hexdigest()
        found[jax.tree_util.keystr(path)] = f"{x.dtype.str} {list(x.shape)} {digest}"
    return found


def losses(run: Path, after: int) -> list[float]:
    """Of the updates after so many, as the metrics of a run tell them."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line["train/loss"] for line in lines if line["step"] > after and "train/loss" in line]


def unpacked(folder: Path) -> Path:
    """All that is kept here, as folders in a new folder."""
    ours = shutil.ignore_patterns("*.tar.xz", "golden.json", "__pycache__")
    shutil.copytree(FOLDER, folder, ignore=ours, dirs_exist_ok=True)
    for name in ARCHIVES:
        with tarfile.open(FOLDER / f"{name}.tar.xz") as archive:
            archive.extractall(folder, filter="data")
    return folder


def resume(name: str, workdir: str) -> list[str]:
    """Arguments of `train` that go on with a copy of a run and log every update."""
    config = ["--config", f"configs/{name}.py", "--workdir", workdir]
    return [*config, *MORE.get(name, []), "--log-every", "1"]


def artifact_data(name: str) -> str:
    """The folder of the data of an artifact's model."""
    return DATA[name.partition("-")[0]]


# --- the data --------------------------------------------------------------------------------------

_WORDS = """the a wide narrow deep small model layer weight row token budget trains prunes keeps loses counts
rounds and of with until before naïve œuvre Größe""".split()


def _sentence(rng: np.random.Generator) -> list[str]:
    return [_WORDS[i] for i in rng.integers(0, len(_WORDS), rng.integers(3, 10))]


def _write_data(folder: Path) -> None:
    rng = np.random.default_rng(21)
    for name in ("text", "pairs", "tables"):
        (folder / name).mkdir()
    documents = ["\n".join(" ".join(_sentence(rng)) + "." for _ in range(4)) for _ in range(60)]
    (folder / "text/one.txt").write_text("\n\n".join(documents[:40]) + "\n", encoding="utf-8")
    lines = [json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in documents[40:]]
    (folder / "text/two.jsonl").write_text("".join(lines), encoding="utf-8")
    for name, count in (("train", 120), ("validation", 12), ("test", 12)):
        rows = ["en\tfr\n"] if name != "test" else []
        for words in (_sentence(rng) for _ in range(count)):
            rows.append(f"{' '.join(words)}\t{' '.join(word[::-1] for word in reversed(words))}\n")
        (folder / f"pairs/{name}.tsv").write_text("".join(rows), encoding="utf-8")
    for name, count in (("train", 80), ("validation", 24)):
        rows = ["text\ttext_b\tlabel\n"]
        for words in (_sentence(rng) for _ in range(count)):
            label = "the" if "the" in words else "other"
            rows.append(f"{' '.join(words)}\t{' '.join(_sentence(rng))}\t{label}\n")
        (folder / f"tables/{name}.tsv").write_text("".join(rows), encoding="utf-8")


# --- what d21cde9 makes of them --------------------------------------------------------------------


def _door(name: str, *arguments: str) -> str:
    """What `python -m tlc_jax.<name>` prints. In this process: environment.json then names no folder."""
    import importlib

    sys.argv = [f"tlc_jax/{name}.py", *arguments]
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        importlib.import_module(f"tlc_jax.{name}").main(list(arguments))
    return printed.getvalue()


def _cut(run: Path, step: int) -> None:
    """Removes what came after so many updates."""
    for path in (run / "checkpoints").iterdir():
        if int(path.name) > step:
            shutil.rmtree(path)
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "metrics.jsonl").write_text("".join(line for line in lines if json.loads(line)["step"] <= step))


def _state(name: str) -> Any:
    """The whole state of training, as resuming a run loads it."""
    import jax  # noqa: I001, these modules are d21cde9's

    from tlc_jax.core.place import locate
    from tlc_jax.core.rundir import RunDir
    from tlc_jax.parallel.mesh import make_mesh
    from tlc_jax.tasks.build import make_task, open_data
    from tlc_jax.training.checkpoint import restore_state
    from tlc_jax.training.restore import trained_model
    from tlc_jax.training.state import Start, init_state

    rundir = RunDir(locate(name))
    config, model = rundir.read_config(), trained_model(name, print)
    task = make_task(config, open_data(config, rundir.data))
    start = Start(model.params, model.masks) if model.masks else None
    like, _ = init_state(task, config.optimizer, jax.random.key(0), make_mesh(config.mesh), start)
    restored = restore_state(rundir.checkpoints, like)
    assert restored is not None
    return restored.state


def _params(name: str) -> Any:
    """The dense parameters of a run, a mark or an artifact."""
    from tlc_jax.training.restore import trained_model

    return trained_model(name, print).params


def _params_rounded(name: str) -> dict[str, str]:
    """Digests of the same where a product and a sum are never one operation (FMA): values of codes whose
    zero is 'float' have other last bits then."""
    import tlc_jax

    package = str(Path(tlc_jax.__file__).parents[1])
    env = {**os.environ, "PYTHONPATH": package, "XLA_FLAGS": "--xla_backend_optimization_level=0"}
    return json.loads(subprocess.check_output([sys.executable, __file__, name], env=env))


def _evaluated(name: str, *more: str) -> dict[str, Any]:
    found = json.loads(_door("evaluate", "--checkpoint", name, "--json", *more))
    assert found.pop("checkpoint") == name
    return found


def _make() -> dict[str, Any]:
    """In the working folder: runs and artifacts. Returns what golden.json says of them."""
    runs: dict[str, Any] = {}
    for name, step in STEPS.items():
        _door("train", *resume(name, name)[:-2])
        uncut = digests(_state(name))
        _cut(Path(name), step)
        shutil.copytree(name, "resumed")
        _door("train", *resume(name, "resumed"))
        own = {"losses": losses(Path("resumed"), step), "state": digests(_state("resumed"))}
        runs[name] = {"step": step, "state": digests(_state(name)), "resumed": own}
        assert own["state"] == uncut
        assert len(own["losses"]) == RESUMED
        shutil.rmtree("resumed")
    artifacts = {}
    for name, asked in ARTIFACTS.items():
        _door("compress", "--out", f"artifacts/{name}", "--checkpoint", *asked.split())
        place = f"artifacts/{name}"
        artifacts[name] = {
            "params": digests(_params(place)),
            "evaluation": _evaluated(place, "--data.dir", artifact_data(name)),
        }
        if (rounded := _params_rounded(place)) != artifacts[name]["params"]:
            artifacts[name]["params_rounded"] = rounded
    runs["rounds/pruned-30"] = {"state": digests(_state("rounds/pruned-30"))}
    models = {name: {"params": digests(_params(name)), "evaluation": _evaluated(name)} for name in MODELS}
    return {"runs": runs, "models": models, "artifacts": artifacts}


def _pack(folder: Path, archive: Path) -> None:
    """The same files always make the same archive."""
    with tarfile.open(archive, "w:xz", preset=9) as file:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.name != "lock":
                about = tarfile.TarInfo(str(path.relative_to(folder.parent)))
                about.size = path.stat().st_size
                file.addfile(about, io.BytesIO(path.read_bytes()))


def _name_no_machine(folder: Path) -> None:
    """environment.json tells of the kernel too, and nothing else may tell where this was made."""
    for path in folder.rglob("environment.json"):
        told = json.loads(path.read_text())
        for start in told["starts"]:
            start["platform"] = start["platform"].partition("-")[0]
        path.write_text(json.dumps(told, indent=1) + "\n")
    here = [b"/tmp/", b"/home/", b"/root/", os.fsencode(Path.home()), os.fsencode(Path(__file__).parents[2])]
    named = [
        path for path in folder.rglob("*") if path.is_file() and any(x in path.read_bytes() for x in here)
    ]
    assert not named, named


def _commit() -> str:
    import tlc_jax

    root = Path(tlc_jax.__file__).parent
    asked = ["git", "-C", str(root), "status", "--porcelain", "."]
    assert not subprocess.check_output(asked, text=True), f"{root} was changed"
    return subprocess.check_output(
        ["git", "-C", str(root), "rev-parse", "--short=7", "HEAD"], text=True
    ).strip()


@contextlib.contextmanager
def _working_in(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def main() -> None:
    import jax

    if len(sys.argv) > 1:  # see _params_rounded
        print(json.dumps(digests(_params(sys.argv[1]))))
        return
    assert _commit() == COMMIT, f"put a worktree of {COMMIT} on PYTHONPATH"
    made = Path("/") / COMMIT
    shutil.copytree(FOLDER / "configs", made / "configs", ignore=shutil.ignore_patterns("__pycache__"))
    try:
        _write_data(made)
        with _working_in(made):
            golden = {"commit": COMMIT, "jax": jax.__version__, **_make()}
        shutil.rmtree(made / "cache")
        shutil.rmtree(made / "configs")
        _name_no_machine(made)
        for name in ARCHIVES:
            _pack(made / name, FOLDER / f"{name}.tar.xz")
        for name in sorted(set(DATA.values())):
            shutil.copytree(made / name, FOLDER / name, dirs_exist_ok=True)
    finally:
        shutil.rmtree(made)
    (FOLDER / "golden.json").write_text(json.dumps(golden, indent=1) + "\n")


if __name__ == "__main__":
    main()
