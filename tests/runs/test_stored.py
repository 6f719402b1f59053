"""What is sealed can be read, under any name of its folder; what strangers declare is compared first."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tensorstore as ts
from etils import epath

from tests.runs.test_checkpoint import new_state, restored, save
from tlc_jax.config import MeshConfig
from tlc_jax.core.errors import SaveFailed, UserError
from tlc_jax.parallel.mesh import make_mesh, replicated
from tlc_jax.runs import checkpoint, saving
from tlc_jax.runs.average import mean_of_last
from tlc_jax.runs.checkpoint import restore_model, whole_steps
from tlc_jax.runs.saving import Checkpoints
from tlc_jax.storage.paths import parse_path
from tlc_jax.storage.sealed import read_manifest, seal
from tlc_jax.training.masked import with_masks
from tlc_jax.training.state import TrainState


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "lr=[1e-3]",
        "*",
        "who?",
        "{a,b}",
        "100%",
        "#1",
        "a b",
        "a\nb",
        "'\"",
        "naïve",
        os.fsdecode(b"\xff"),
        "~",
        "other/../plain",
    ],
    ids=ascii,
)
def test_any_name_of_a_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "other").mkdir()
    save(tmp_path / name, 3, 6)
    assert restored(tmp_path / name) == (6, [])
    assert {path.name for path in (tmp_path / name).iterdir()} == {"3", "6"}


def test_a_save_of_which_a_part_was_skipped_is_not_sealed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Orbax does, without an error, where its folder's name is a pattern."""

    @contextmanager
    def itself(folder: Path) -> Iterator[Path]:
        yield folder

    monkeypatch.setattr(saving, "plain_path", itself)
    folder = tmp_path / "[1e-3]"
    with pytest.raises(SaveFailed, match="what was written could not be restored: it lacks encoder.bias"):
        save(folder, 3)
    assert whole_steps(folder) == []


def test_names_that_a_store_takes_for_a_pattern_are_refused() -> None:
    for name in ("lr=[1]", "a*", "a?", "a#b", "a\nb"):
        with pytest.raises(UserError, match="read as a pattern: choose a name without"):
            parse_path(f"gs://bucket/{name}")


@pytest.mark.parametrize("part", ["6", "params"])
def test_a_save_that_fails_leaves_nothing_that_keeps_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    """Orbax's threads wait five minutes for a folder that cannot be made."""
    backend = type(epath.Path(tmp_path)._backend)  # type: ignore[attr-defined]
    make = backend.makedirs

    def full(self: object, path: str, *args: Any, **more: Any) -> None:
        if Path(path).name.startswith(f"{part}."):
            raise OSError(28, "No space left on device")
        make(self, path, *args, **more)

    save(tmp_path, 3)
    before = set(threading.enumerate())
    monkeypatch.setattr(backend, "makedirs", full)
    with pytest.raises(SaveFailed, match="No space left on device"):
        save(tmp_path, 6)
    assert all(thread.daemon for thread in set(threading.enumerate()) - before)
    assert restored(tmp_path) == (3, [])


# --- a run that trains while it is read -----------------------------------------------------------------


def retired_once(monkeypatch: pytest.MonkeyPatch, folder: Path, name: str, *newer: int) -> Callable[..., Any]:
    """The first call of `checkpoint.NAME` finds that the run has saved newer steps, and removed the older."""
    honest = getattr(checkpoint, name)

    def late(*args: Any, **more: Any) -> Any:
        monkeypatch.setattr(checkpoint, name, honest)
        save(folder, *newer, keep=len(newer))
        return honest(*args, **more)

    monkeypatch.setattr(checkpoint, name, late)
    return honest


@pytest.mark.parametrize("moment", ["open_sealed", "check_stored", "_read_arrays"])
def test_who_reads_a_run_that_trains_gets_its_newest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    save(tmp_path, 3, 6)
    retired_once(monkeypatch, tmp_path, moment, 9)
    params, _, step = restore_model(tmp_path, new_state().params, pytest.fail)
    assert step == 9
    assert float(params["encoder"]["kernel"][0]) == 9
    assert whole_steps(tmp_path) == [9]


def test_the_mean_of_the_last_of_a_run_that_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path, 3, 6)
    retired_once(monkeypatch, tmp_path, "check_stored", 9, 12)
    params, masks, steps = mean_of_last(tmp_path, new_state().params, 2)
    assert (steps, masks) == ([9, 12], {})
    assert float(params["encoder"]["kernel"][0]) == 10.5


# --- checkpoints of strangers ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stored") / "c"
    save(folder, 3)
    return folder


def store(folder: Path, item: str = "params") -> Any:
    return ts.KvStore.open(
        {"driver": "ocdbt", "base": {"driver": "file", "path": f"{folder / '3' / item}/"}}
    ).result()


def forge(folder: Path, change: Callable[[Path], object]) -> None:
    """As anybody can: the digests are right."""
    change(folder / "3")
    manifest = read_manifest(folder / "3")
    del manifest["files"]
    seal(folder / "3", manifest)


KERNEL = b"encoder.kernel/.zarray"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"shape": [10**12]}, r"encoder.kernel has the shape \[1000000000000\] instead of \[1000\]"),
        ({"shape": [10**12], "chunks": [10**12]}, "has the shape"),
        ({"chunks": [10**10]}, r"is stored in chunks of \[10000000000\]"),
        ({"chunks": [1]}, r"holds \d of the 1000 chunks of encoder.kernel"),
        ({"chunks": [0]}, "is stored in chunks of"),
        ({"chunks": []}, "is stored in chunks of"),
        ({"dtype": "|O"}, r"is of the type \|O instead of float32"),
        ({"dtype": "<f8"}, "is of the type <f8 instead of float32"),
        ({"dtype": [["a", "<f4"]]}, "not described as Orbax describes arrays"),
        ({"compressor": {"id": "blosc"}}, "not described as Orbax describes arrays"),
        ({"filters": [{"id": "x"}]}, "not described as Orbax describes arrays"),
        (b"[" * 200_000, "nested too deeply"),
        (b"\xff", "not described as Orbax describes arrays"),
        (b" " * (70 << 20) + b"{}", "its files have .* bytes, its arrays 4,012"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_what_an_array_is_declared_to_be_is_compared(
    whole: Path, tmp_path: Path, change: Any, says: str
) -> None:
    """tensorstore would allocate it, or end the process."""
    folder = Path(shutil.copytree(whole, tmp_path / "c"))

    def forged(step: Path) -> None:
        own = json.loads(store(folder).read(KERNEL).result().value)
        text = change if isinstance(change, bytes) else json.dumps({**own, **change}).encode()
        store(folder).write(KERNEL, text).result()

    forge(folder, forged)
    with pytest.raises(UserError, match=says):
        restore_model(folder, new_state().params, pytest.fail)


def described(**change: Any) -> Callable[[Path], object]:
    def forged(step: Path) -> None:
        path = step / "params" / "_METADATA"
        path.write_text(json.dumps({**json.loads(path.read_text()), **change}))

    return forged


@pytest.mark.parametrize(
    "change",
    [
        described(use_zarr3=True),
        described(use_ocdbt=False),
        described(tree_metadata={}),
        described(tree_metadata=[1]),
        described(tree_metadata={"x": {"value_metadata": {"value_type": "pickle"}}}),
        lambda step: (step / "params" / "_METADATA").write_text("[" * 100_000),
        lambda step: (step / "params" / "array_metadatas" / "process_0").write_text("[]"),
        lambda step: (step / "params" / "manifest.ocdbt").unlink(),
        lambda step: (step / "params" / "manifest.ocdbt").write_bytes(b"\x0c" * 100),
        lambda step: store(step.parent).write("encoder.more/.zarray", b"{}").result(),
    ],
)
def test_what_orbax_would_read_is_looked_at(whole: Path, tmp_path: Path, change: Any) -> None:
    folder = Path(shutil.copytree(whole, tmp_path / "c"))
    forge(folder, change)
    with pytest.raises(UserError, match=r"the checkpoint .* is (of another model|damaged)") as raised:
        restore_model(folder, new_state().params, pytest.fail)
    assert len(str(raised.value)) < 1000


@pytest.mark.parametrize("name", ["_CHECKPOINT_METADATA", "params/commit_success.txt", "params/pipe"])
def test_a_pipe_is_not_waited_for(whole: Path, tmp_path: Path, name: str) -> None:
    folder = Path(shutil.copytree(whole, tmp_path / "c"))
    (folder / "3" / name).unlink(missing_ok=True)
    manifest = read_manifest(folder / "3")
    manifest["files"].pop(name, None)
    del manifest["files"]
    seal(folder / "3", manifest)
    os.mkfifo(folder / "3" / name)
    with pytest.raises(UserError, match="it is not a regular file"):
        restore_model(folder, new_state().params, pytest.fail)


@pytest.mark.parametrize("meta", ['{"meter": {"loss": "x"}}', '{"data": 1}', "[]", "[" * 10**5, "\xff"])
def test_what_a_run_would_go_on_with_is_looked_at(whole: Path, tmp_path: Path, meta: str) -> None:
    folder = Path(shutil.copytree(whole, tmp_path / "c"))
    forge(folder, lambda step: (step / "meta" / "metadata").write_bytes(meta.encode("latin-1")))
    with pytest.raises(UserError, match="meta/metadata is not what a run writes"):
        restored(folder)


def test_folders_that_are_no_steps(whole: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(whole, tmp_path / "c"))
    for name in ("²", "007", "9" * 30, "-1", "4294967296"):
        shutil.copytree(folder / "3", folder / name)
    assert whole_steps(folder) == [3]
    assert restored(folder) == (3, [])


# --- masks -------------------------------------------------------------------------------------------


def masked_state() -> tuple[TrainState, dict[str, Any]]:
    params = {"encoder": {"layers": {"kernel": jnp.ones((2, 4, 4))}, "bias": jnp.zeros(3)}}
    params = jax.device_put(params, replicated(make_mesh(MeshConfig())))
    masks = {"encoder/layers/0/kernel": np.eye(4) > 0}
    return TrainState(
        jnp.int32(0), params, with_masks(optax.scale_by_adam().init(params), params, masks)
    ), masks


def test_masks_are_those_that_were_saved(tmp_path: Path) -> None:
    state, masks = masked_state()
    with Checkpoints(tmp_path, 2) as checkpoints:
        checkpoints.save(3, state, {})
        checkpoints.wait()
    _, found, _ = restore_model(tmp_path, state.params, pytest.fail)
    assert found.keys() == {"encoder/layers/kernel"}
    np.testing.assert_array_equal(
        found["encoder/layers/kernel"], np.stack([masks["encoder/layers/0/kernel"], np.ones((4, 4), bool)])
    )


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("encoder/layers/kernel", {"shape": [10**12]}, "has the shape"),
        ("encoder/layers/kernel", {"dtype": "<f4"}, "is of the type <f4 instead of bool"),
        ("encoder/layers/other", {}, "a mask of encoder/layers/other, but there is no such parameter"),
    ],
)
def test_masks_of_strangers(tmp_path: Path, name: str, change: dict[str, Any], says: str) -> None:
    state, _ = masked_state()
    with Checkpoints(tmp_path, 2) as checkpoints:
        checkpoints.save(3, state, {})
        checkpoints.wait()

    def forged(step: Path) -> None:
        values = store(tmp_path, "optimizer")
        own = json.loads(values.read(b"masks.encoder/layers/kernel/.zarray").result().value)
        values.write(f"masks.{name}/.zarray", json.dumps({**own, **change}).encode()).result()

    forge(tmp_path, forged)
    with pytest.raises(UserError, match=says):
        restore_model(tmp_path, state.params, pytest.fail)
