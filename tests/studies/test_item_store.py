"""The results of a study: the first one counts, nothing that was changed is used, and all are one table."""

from __future__ import annotations

import errno
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tlc_jax.core.errors import NotFinite, UserError
from tlc_jax.storage import paths
from tlc_jax.studies.item_store import ItemStore, Result, pack_scores, unpack_scores

CHECKSUM = "0" * 64


def result(name: str = "1x16/seed0/trained", value: float = 1.5, **fields: Any) -> Result:
    return Result(
        item=name,
        stage="train",
        fields={"size": "1x16", "seed": 0, **fields},
        rows=[{"set": "held_out", "metric": "nats_per_byte", "value": value, "step": 4}],
        made={"device": "a CPU", "commit": "abc"},
        data={"train": {"identity": CHECKSUM, "tokenizer": CHECKSUM}},
    )


RACE = """
import multiprocessing, sys
from pathlib import Path
from tlc_jax.studies.item_store import ItemStore, Result

def seal(number):
    store = ItemStore(Path(sys.argv[1]))
    about = dict(stage="train", fields={}, made={}, rows=[{"set": "x", "metric": "m", "value": number}])
    return [store.seal(Result(item=f"{item}/trained", **about)) for item in range(30)]

with multiprocessing.get_context("fork").Pool(8) as pool:
    first = pool.map(seal, range(8), chunksize=1)
for item in range(30):
    [winner] = [number for number in range(8) if first[number][item]]
    [row] = ItemStore(Path(sys.argv[1])).result(f"{item}/trained")["rows"]
    assert row["value"] == winner, (item, row, winner)
print("one each")
"""


def test_of_many_processes_the_first_result_of_an_item_counts(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", RACE, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.stdout == "one each\n", done.stderr
    assert len(list(tmp_path.rglob("*"))) == 1 + 2 * 30, "no temporary file is left"


def test_what_is_sealed_comes_back_and_stays(tmp_path: Path) -> None:
    store = ItemStore(tmp_path)
    assert not store.has("1x16/seed0/trained")
    assert list(store.results()) == store.rows() == []
    first = result()
    assert store.seal(first)
    assert not store.seal(result(value=2.5)), "another process was first"
    for each in (store, ItemStore(tmp_path)):
        assert each.has("1x16/seed0/trained")
        assert each.result("1x16/seed0/trained") == first


def test_rows_have_the_columns_of_their_item(tmp_path: Path) -> None:
    store = ItemStore(tmp_path)
    store.seal(result("b/trained", 1.0, size="2x16"))
    store.seal(result("a/trained", 2.0))
    first, second = store.rows()
    assert [first["item"], second["item"]] == ["a/trained", "b/trained"]
    assert first == {
        "item": "a/trained",
        "stage": "train",
        "size": "1x16",
        "seed": 0,
        "device": "a CPU",
        "commit": "abc",
        "set": "held_out",
        "metric": "nats_per_byte",
        "value": 2.0,
        "step": 4,
    }
    assert store.rows(size="2x16", stage="train") == [second]
    assert store.rows(size="2x16", stage="branch") == store.rows(no_column="x") == []


def test_files_of_processes_that_were_killed_are_no_results(tmp_path: Path) -> None:
    store = ItemStore(tmp_path)
    store.seal(result())
    shutil.copy(store.path("1x16/seed0/trained"), f"{store.path('1x16/seed0/other')}.0123456789ab.tmp")
    assert len(list(ItemStore(tmp_path).results())) == 1


@pytest.mark.parametrize("links", [True, False])
def test_of_a_result_that_does_not_fit_on_the_disk_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    """On file systems without hard links, too, where the disk fills up between the two files. A limit on the
    size of files stands in for the disk."""
    resource = pytest.importorskip("resource")
    _, hard = before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(*_: object) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
        raise OSError(errno.EPERM, "no links")

    store = ItemStore(tmp_path)
    store.seal(result("first"))
    if not links:
        monkeypatch.setattr(paths.os, "link", fill)
    try:
        if links:
            resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
        with pytest.raises(OSError, match="too large") as failed:
            store.seal(result("second"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "second.json" in failed.value.filename
    assert [path.name for path in store.folder.iterdir()] == ["first.json"]
    monkeypatch.undo()
    assert store.seal(result("second")), "once there is room"


def rewritten(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], object]:
    def damage(path: Path) -> None:
        document = json.loads(path.read_text())
        change(document)
        path.write_text(json.dumps(document))

    return damage


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (rewritten(lambda d: d["rows"][0].update(value=1.4)), "it was changed: its sha256"),
        (rewritten(lambda d: d["fields"].update(seed=1)), "it was changed"),
        (rewritten(lambda d: d["made"].update(device="a GPU")), "it was changed"),
        (rewritten(lambda d: d["data"]["train"].update(identity="1" * 64)), "it was changed"),
        (rewritten(lambda d: d["rows"].append(d["rows"][0])), "it was changed"),
        (rewritten(lambda d: d.update(extra=1)), "it was changed"),
        (rewritten(lambda d: d.pop("sha256")), "it was changed"),
        (rewritten(lambda d: d.pop("rows")), "rows: field required"),
        (rewritten(lambda d: d.update(stage=3)), "stage: .*string"),
        (lambda path: path.write_text("[1]"), "it is not a JSON object"),
        (lambda path: path.write_text(path.read_text()[:-20]), "not the result"),
        (lambda path: path.write_text(""), "not the result"),
        (lambda path: path.write_text(path.read_text().replace("1.5", "NaN")), "NaN"),
        (lambda path: path.write_text(path.read_text().replace("1.5", "1e999")), "not the result"),
        (lambda path: path.write_bytes(b"\xff" * 8), "utf-8"),
        (lambda path: path.write_text("[" * 100_000), "nested too deeply"),
    ],
)
def test_a_file_that_was_changed_is_refused_and_named(
    tmp_path: Path, damage: Callable[[Path], object], why: str
) -> None:
    store = ItemStore(tmp_path)
    store.seal(result())
    damage(store.path("1x16/seed0/trained"))
    with pytest.raises(UserError, match=why) as refused:
        ItemStore(tmp_path).result("1x16/seed0/trained")
    assert f"{tmp_path}/items/1x16/seed0/trained.json" in str(refused.value)


def test_a_file_in_the_place_of_another_is_refused(tmp_path: Path) -> None:
    store = ItemStore(tmp_path)
    for name in ("1x16/seed0/trained", "1x16/seed1/trained"):
        store.seal(result(name))
    shutil.copy(store.path("1x16/seed0/trained"), store.path("1x16/seed1/trained"))
    with pytest.raises(UserError, match=r"seed1/trained.json is not .*it is that of 1x16/seed0/trained"):
        ItemStore(tmp_path).rows()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_number_that_is_not_finite_is_not_stored(tmp_path: Path, value: float) -> None:
    store = ItemStore(tmp_path)
    with pytest.raises(NotFinite, match=f"its nats_per_byte on held_out is {value}: lower the learning rate"):
        store.seal(result(value=value))
    assert not store.has("1x16/seed0/trained")
    with pytest.raises(NotFinite, match="a score of an example is not finite: lower the learning rate"):
        pack_scores(np.array([1.0, value]), np.ones(2))


@given(st.lists(st.tuples(st.floats(width=32, allow_nan=False, allow_infinity=False), st.integers(0, 99))))
def test_packed_scores_come_back(pairs: list[tuple[float, int]]) -> None:
    scores, weights = np.array(pairs, float).reshape(-1, 2).T
    packed = pack_scores(scores, weights)
    for found, given_ in zip(unpack_scores(packed), (scores, weights), strict=True):
        np.testing.assert_array_equal(found, given_)
        assert found.dtype == np.float64
    assert json.loads(json.dumps(packed)) == packed


def test_results_of_a_study_keep_their_size(tmp_path: Path) -> None:
    """Scores of 10,000 examples and their weights take eight bytes an example, as base64."""
    store = ItemStore(tmp_path)
    scores = np.random.default_rng(0).random(10_000)
    store.seal({**result(), "examples": {"held_out": pack_scores(scores, np.ones(10_000))}})
    assert store.path("1x16/seed0/trained").stat().st_size < 10_000 * 8 * 4 / 3 + 2000
