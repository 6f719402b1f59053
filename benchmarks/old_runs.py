"""Whether runs and artifacts of d21cde9 go on as they did: two checkouts resume and evaluate the same folders
(tests/golden/d21cde9) on one machine, and losses, final states and evaluations are compared bit for bit.

git worktree add --detach OLD d21cde9
python benchmarks/old_runs.py --before OLD --output FILE.json

Each command runs in a process of its own, on one CPU device and without XLA_FLAGS; of the package this script
imports nothing. It ends with 1 where anything differs.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from about import about

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from tests.golden import make_d21cde9 as old  # noqa: E402


class Checkout:
    """What the commands of one checkout make of a copy of the folders."""

    def __init__(self, root: Path, folder: Path):
        self._folder = old.unpacked(folder / "work")
        (folder / "home").mkdir()
        package = str(root.resolve())
        own = {"PYTHONPATH": package, "HOME": str(folder / "home"), "JAX_PLATFORMS": "cpu"}
        self._env = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"} | own
        there = self._run("-c", "import tlc_jax; print(tlc_jax.__file__)").strip()
        assert there.startswith(package), f"{there} is not in {package}"
        git = ["git", "-C", package]
        self.commit = subprocess.check_output([*git, "rev-parse", "--short=7", "HEAD"], text=True).strip()
        changed = subprocess.check_output([*git, "status", "--porcelain", "tlc_jax"], text=True)
        assert not changed, f"{package} has changes that no commit names:\n{changed}"

    def resumed(self, name: str) -> dict[str, Any]:
        """Losses of the updates up to the end of a run, and the state there."""
        copy = f"resumed-{name}"
        subprocess.run(["cp", "-r", name, copy], cwd=self._folder, check=True)
        self._run("-m", "tlc_jax.train", *old.resume(name, copy))
        step = old.STEPS[name]
        return {
            "losses": old.losses(self._folder / copy, step),
            "state": _saved(self._folder / copy / f"checkpoints/{step + old.RESUMED}"),
        }

    def evaluated(self, name: str) -> dict[str, Any]:
        kind, _, artifact = name.partition("/")
        more = ["--data.dir", old.artifact_data(artifact)] if kind == "artifacts" else []
        return json.loads(self._run("-m", "tlc_jax.evaluate", "--checkpoint", name, "--json", *more))

    def _run(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments], cwd=self._folder, env=self._env, capture_output=True, text=True
        )
        if done.returncode:
            sys.exit(f"{' '.join(arguments)} ended with {done.returncode}:\n{done.stderr[-3000:]}")
        return done.stdout


def _saved(step: Path) -> dict[str, str]:
    """Digests of a checkpoint, as Orbax alone reads it."""
    import absl.logging
    import orbax.checkpoint as ocp

    absl.logging.set_verbosity(absl.logging.ERROR)
    names = ("params", "optimizer")
    args = ocp.args.Composite(**{name: ocp.args.StandardRestore() for name in names})
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler(*names)) as orbax:
        found = orbax.restore(step, args=args)
    return old.digests({name: found[name] for name in names})


def _compared(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """Of two dictionaries of numbers or digests: how many there were before, which of them are not equal, and
    which are new."""
    different = {
        name: {"before": value, "after": after.get(name)}
        for name, value in sorted(before.items())
        if value != after.get(name)
    }
    return {"compared": len(before), "different": different, "new": sorted(after.keys() - before.keys())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", type=Path, required=True)
    parser.add_argument("--after", type=Path, default=ROOT)
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    golden = json.loads((old.FOLDER / "golden.json").read_text())
    with tempfile.TemporaryDirectory() as folder:
        one, other = (Checkout(getattr(args, name), Path(folder) / name) for name in ("before", "after"))
        assert one.commit == old.COMMIT, f"--before is at {one.commit}, not at {old.COMMIT}"
        updates: dict[str, Any] = {}
        for name in old.STEPS:
            before, after = one.resumed(name), other.resumed(name)
            updates[name] = {
                "losses": {part: found["losses"] for part, found in (("before", before), ("after", after))},
                "losses_equal": before["losses"] == after["losses"],
                "state": _compared(before["state"], after["state"]),
                "losses_as_committed": before["losses"] == golden["runs"][name]["resumed"]["losses"],
            }
            print(f"{name}: losses equal {updates[name]['losses_equal']}, state {updates[name]['state']}")
        evaluations = {}
        for name in (*old.MODELS, *(f"artifacts/{name}" for name in old.ARTIFACTS)):
            evaluations[name] = _compared(one.evaluated(name), other.evaluated(name))
            print(f"{name}: {evaluations[name]}")
    equal = all(
        own["losses_equal"] and not own["state"]["different"] and not own["state"]["new"]
        for own in updates.values()
    )
    equal = equal and not any(own["different"] for own in evaluations.values())
    result = {
        **about(),
        "commits": {"before": one.commit, "after": other.commit},
        "bit_equal": equal,
        "updates": updates,
        "evaluations": evaluations,
    }
    args.output.write_text(json.dumps(result, indent=1) + "\n")
    print("bit-equal" if equal else "NOT bit-equal")
    sys.exit(not equal)


if __name__ == "__main__":
    main()
