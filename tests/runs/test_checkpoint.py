"""Checkpoints under everything that can happen to them: what is restored is what was saved, or is refused."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from tlc_jax.config import MeshConfig
from tlc_jax.core.errors import SaveFailed, UserError
from tlc_jax.parallel.mesh import make_mesh, replicated
from tlc_jax.runs import saving
from tlc_jax.runs.checkpoint import restore_model, whole_steps
from tlc_jax.runs.saving import Checkpoints
from tlc_jax.runs.snapshot import Snapshot
from tlc_jax.storage import sealed
from tlc_jax.storage.paths import AnyPath
from tlc_jax.training.state import TrainState


def new_state(plus: float = 0.0, size: int = 1000) -> TrainState:
    params = {"encoder": {"kernel": jnp.arange(size, dtype=jnp.float32) + plus, "bias": jnp.zeros(3) + plus}}
    state = TrainState(jnp.int32(0), params, {"mu": jax.tree.map(jnp.ones_like, params)})
    return jax.device_put(state, replicated(make_mesh(MeshConfig())))


def save(folder: AnyPath, *steps: int, keep: int = 5) -> None:
    """Whose parameters are those of `new_state(step)`."""
    with Checkpoints(folder, keep) as checkpoints:
        for step in steps:
            checkpoints.save(step, new_state(step), {"training_seconds": step / 2})
        checkpoints.wait()


def restored(folder: AnyPath) -> tuple[int, list[str]]:
    """The step that is restored, after a look at its values, and what was refused."""
    with Checkpoints(folder, keep=5) as checkpoints:
        found = checkpoints.restore(new_state())
    assert found is not None
    assert float(found.state.params["encoder"]["kernel"][7]) == 7 + found.step
    assert int(found.state.step) == found.step
    assert found.meta == {"training_seconds": found.step / 2}
    return found.step, found.refused


@pytest.mark.slow
def test_training_on_while_saving_does_not_change_what_is_saved(tmp_path: Path) -> None:
    """The step takes over its input's memory; the background copy must not see the next step in it."""
    step = jax.jit(lambda state: jax.tree.map(lambda x: x + 1, state), donate_argnums=0)
    state = new_state(size=1_000_000)
    with Checkpoints(tmp_path, keep=5) as checkpoints:
        checkpoints.reserve(state)
        for number in range(1, 64):
            state = step(state)
            if number % 21 == 0:
                checkpoints.save(number, state, {})
        checkpoints.wait()
        for number in (63, 42, 21):
            found = checkpoints.restore(new_state(size=1_000_000))
            assert found is not None
            assert found.step == number
            kernel, moment = found.state.params["encoder"]["kernel"], found.state.optimizer["mu"]["encoder"]
            np.testing.assert_array_equal(kernel, np.arange(1e6, dtype=np.float32) + number)
            np.testing.assert_array_equal(moment["bias"], np.full(3, 1.0 + number))
            shutil.rmtree(tmp_path / str(number))


def test_a_save_holds_on_to_no_memory_of_the_state() -> None:
    """Else the next step, which is given that memory, waits until every byte is written."""

    def places(state: TrainState) -> list[int]:
        leaves = jax.tree.leaves(state)
        return [shard.data.unsafe_buffer_pointer() for leaf in leaves for shard in leaf.addressable_shards]

    state, snapshot = new_state(), Snapshot()
    first = places(snapshot.take(state))
    second = snapshot.take(jax.tree.map(lambda x: x + 1, state))
    assert not set(first) & set(places(state))
    assert sorted(first) == sorted(places(second)), "memory is touched once, not at every save"
    np.testing.assert_array_equal(second.params["encoder"]["bias"], np.ones(3))


def test_the_newest_and_the_marked_stay(tmp_path: Path) -> None:
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        assert checkpoints.restore(new_state()) is None
        for step in (3, 6, 9, 12):
            checkpoints.save(step, new_state(), {}, marks=("1/4",) if step == 3 else ())
    assert whole_steps(tmp_path) == [3, 9, 12]
    assert {path.name for path in tmp_path.iterdir()} == {"3", "9", "12"}


def test_the_best_until_now_stays(tmp_path: Path) -> None:
    """Steps 2, 4 and 5 were the best when they were saved, 2 and 4 until the next of them was whole; 1 is
    kept for a mark of its own as well."""
    marks = {1: ("best", "1/4"), 2: ("best",), 4: ("best",), 5: ("best",)}
    left = {}
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        for step in range(1, 9):
            checkpoints.save(step, new_state(step), {}, marks=marks.get(step, ()))
            checkpoints.wait()
            left[step] = whole_steps(tmp_path)
    assert left[3] == [1, 2, 3]
    assert left[4] == [1, 3, 4], "2 is the best no longer"
    assert left[8] == [1, 5, 7, 8]
    assert whole_steps(tmp_path, "best")[-1] == 5
    params, _, step = restore_model(tmp_path, new_state().params, pytest.fail, "best")
    assert step == 5
    assert float(params["encoder"]["bias"][0]) == 5


def test_parameters_load_alone_and_elsewhere(tmp_path: Path) -> None:
    save(tmp_path, 7)
    shutil.rmtree(tmp_path / "7" / "optimizer")
    one = jax.make_mesh((1,), ("data",), devices=jax.devices()[:1])
    like = jax.tree.map(
        lambda x: jax.device_put(jnp.zeros_like(x), NamedSharding(one, PartitionSpec())), new_state().params
    )
    params, _, step = restore_model(tmp_path, like, pytest.fail)
    assert step == 7
    np.testing.assert_array_equal(params["encoder"]["kernel"], np.arange(1000.0) + 7)
    assert len(params["encoder"]["kernel"].devices()) == 1
    assert isinstance(params["encoder"], dict)


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    save(tmp_path, 7)
    own = new_state().params["encoder"]
    for like in ({**own, "kernel": jnp.zeros(5)}, {**own, "x": jnp.ones(1)}, {"kernel": own["kernel"]}):
        with pytest.raises(UserError, match="7 is of another model"):
            restore_model(tmp_path, {"encoder": like}, pytest.fail)
    with pytest.raises(UserError, match="holds no checkpoint"):
        restore_model(tmp_path / "none", {}, pytest.fail)


# --- damage ------------------------------------------------------------------------------------------


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.slow
def test_one_flipped_bit_in_any_file_is_noticed(tmp_path: Path) -> None:
    """Of every file of a checkpoint, its manifest too; the step before is used, the damaged one put aside."""
    save(tmp_path / "whole", 3, 6)
    whole = tmp_path / "whole"
    paths = [path for path in (whole / "6").rglob("*") if path.is_file() and path.stat().st_size]
    files = [path.relative_to(whole) for path in paths]
    assert len(files) > 10
    for name in files:
        folder = Path(shutil.copytree(tmp_path / "whole", tmp_path / "one", dirs_exist_ok=True))
        flip(folder / name)
        step, [refused] = restored(folder)
        assert step == 3
        assert "the checkpoint of step 6 is damaged" in refused
        assert name.name in refused
        assert (folder / "damaged" / "6" / name.relative_to("6")).is_file()
        shutil.rmtree(folder)


@pytest.mark.parametrize("damage", [cut, Path.unlink])
def test_truncated_and_missing_files_are_named(tmp_path: Path, damage) -> None:
    save(tmp_path, 3, 6)
    data = max((tmp_path / "6" / "params").rglob("*"), key=lambda path: path.stat().st_size * path.is_file())
    damage(data)
    warnings: list[str] = []
    _, _, step = restore_model(tmp_path, new_state().params, warnings.append)
    assert step == 3
    assert data.name in warnings[0]
    assert whole_steps(tmp_path) == [3, 6], "who only reads changes nothing"
    assert restored(tmp_path)[0] == 3


def test_a_step_under_another_name_is_refused(tmp_path: Path) -> None:
    save(tmp_path, 3, 6)
    shutil.copytree(tmp_path / "3", tmp_path / "9")
    step, refused = restored(tmp_path)
    assert step == 6
    assert "step 9 is damaged" in refused[0]
    assert "holds step 3" in refused[0]


def test_nothing_whole_is_an_error_that_names_all(tmp_path: Path) -> None:
    save(tmp_path, 3, 6)
    for step in (3, 6):
        flip(tmp_path / str(step) / "meta" / "metadata")
    with pytest.raises(UserError, match=r"no checkpoint .* is whole \(.*step 6 .*step 3 .*put a copy back"):
        restored(tmp_path)
    assert whole_steps(tmp_path) == [3, 6], "nothing is touched"


# --- killed processes and full disks -------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("left", ["temporary", "unsealed", "empty", "half removed"])
def test_leftovers_of_a_killed_process(tmp_path: Path, left: str) -> None:
    save(tmp_path, 3, 6, 9)
    newest = tmp_path / "9"
    if left == "temporary":
        newest.rename(tmp_path / "9.orbax-checkpoint-tmp")
    elif left == "unsealed":
        (newest / "manifest.json").unlink()
    elif left == "empty":
        shutil.rmtree(newest)
        newest.mkdir()
    else:
        (newest / "manifest.json").rename(newest / "retired.json")
        shutil.rmtree(newest / "params")
    assert restored(tmp_path) == (6, [])
    assert {path.name for path in tmp_path.iterdir()} <= {"3", "6", "damaged"}
    assert (tmp_path / "damaged").exists() == (left in ("unsealed", "empty"))
    save(tmp_path, 9)
    assert restored(tmp_path) == (9, [])


KILLED = """
import os, pathlib, signal, sys
from tests.runs.test_checkpoint import new_state
from tlc_jax.storage import sealed
from tlc_jax.runs import saving

def killed(*_):
    os.kill(os.getpid(), signal.SIGKILL)

where = {
    "writing": (saving.Checkpoints, "_finish"),  # Orbax is at work in its own thread
    "sealing": (saving, "seal"),
    "committing": (sealed, "_digest"),
    "deleting": (saving.shutil, "rmtree"),
}
with saving.Checkpoints(pathlib.Path(sys.argv[1]), 2) as checkpoints:
    for step in (1, 2, 3):
        if step == 3:
            checkpoints.wait()
            setattr(*where[sys.argv[2]], killed)
        checkpoints.save(step, new_state(step), {"training_seconds": step / 2})
"""


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["writing", "sealing", "committing", "deleting"])
def test_kill_9_while_saving(tmp_path: Path, moment: str) -> None:
    """A real process that ends at a fixed point of its third save."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent.parent)}
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path / "c"), moment], env=environment, check=False
    )
    assert done.returncode == -signal.SIGKILL
    expected = 3 if moment == "deleting" else 2
    assert restored(tmp_path / "c") == (expected, [])
    save(tmp_path / "c", 4, keep=2)
    assert whole_steps(tmp_path / "c")[-1] == 4


def test_a_full_disk_is_noticed_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path, 3)
    usage = shutil.disk_usage(tmp_path)._replace(free=100)
    monkeypatch.setattr(saving.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(SaveFailed, match=rf"step 6 needs up to 8,\d+ bytes, but 100 are free in {tmp_path}"):
        save(tmp_path, 6)
    assert restored(tmp_path) == (3, [])


@pytest.mark.slow
def test_a_disk_that_fills_up_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The failure shows at the next look; earlier steps are whole, later saves work."""
    save(tmp_path, 3)

    def full(folder: Path, about: dict) -> None:
        raise OSError(28, "No space left on device")

    with Checkpoints(tmp_path, keep=5) as checkpoints:
        with monkeypatch.context() as patch:
            patch.setattr(saving, "seal", full)
            checkpoints.save(6, new_state(6), {})
            while not checkpoints.failed():
                pass
            with pytest.raises(SaveFailed, match=r"step 6 .*No space left.* bytes are free .* of step 3"):
                checkpoints.wait()
        checkpoints.save(9, new_state(9), {"training_seconds": 4.5})
        checkpoints.wait()
    assert whole_steps(tmp_path) == [3, 9]
    assert restored(tmp_path) == (9, [])


def test_a_seal_names_its_step(tmp_path: Path) -> None:
    save(tmp_path, 3)
    manifest = sealed.read_manifest(tmp_path / "3")
    assert (manifest["step"], manifest["marks"]) == (3, [])
