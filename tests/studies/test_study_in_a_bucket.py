"""A study in a bucket, where nothing can be renamed, appended or locked."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.bucket import Bucket
from tests.studies.untrained import FIRST, SECOND, Folder
from tlc_jax.core.errors import UserError
from tlc_jax.storage.lock import locked
from tlc_jax.storage.paths import parse_path
from tlc_jax.studies import item_worker
from tlc_jax.studies.item_store import ItemStore, Result

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bucket() -> Bucket:
    bucket = Bucket()
    bucket.start()
    return bucket


def result(value: int) -> Result:
    rows = [{"set": "x", "metric": "loss", "value": value}]
    return Result(item="1x16/seed0/trained", stage="train", fields={}, rows=rows, made={})


def test_the_first_result_counts(bucket: Bucket) -> None:
    workdir = parse_path("gs://bucket/race")
    together = threading.Barrier(6)

    def seal(number: int) -> bool:
        store = ItemStore(workdir)
        together.wait(60)
        return store.seal(result(number))

    with ThreadPoolExecutor(6) as pool:
        sealed = list(pool.map(seal, range(6)))
    assert sealed.count(True) == 1
    [row] = ItemStore(workdir).rows()
    assert row["value"] == sealed.index(True)


def test_a_study_is_resumed_grows_and_is_the_one_on_a_disk(
    bucket: Bucket, folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.go()
    on_disk = {each["item"]: {**each, "made": None} for each in folder.store.results()}
    folder.workdir = parse_path("gs://bucket/studies/one")
    folder.go(SECOND)
    monkeypatch.setattr(item_worker, "_PAUSE", 0.05)
    lease = locked(folder.workdir / "leases" / f"{SECOND}trained", wait=False)
    lease.__enter__()
    threading.Timer(1, lambda: lease.__exit__(None, None, None)).start()
    assert len(folder.resume()) == 3, "the lease of another process was waited for"
    in_bucket = {each["item"]: {**each, "made": None} for each in folder.store.results()}
    assert in_bucket == on_disk
    assert folder.go("", "--bits", "8") == []
    assert len(folder.measured) == 8
    with pytest.raises(UserError, match="another config: train.seed is 3"):
        folder.go("", "--train.seed", "3")
    path = folder.store.path(f"{FIRST}trained")
    path.write_text(path.read_text().replace("1.5", "1.4"))
    with pytest.raises(UserError, match=r"gs://bucket/studies/one/items/.*trained.json is not .*was changed"):
        folder.go()
