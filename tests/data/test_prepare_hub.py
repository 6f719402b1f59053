"""`prepare` from the Hugging Face hub: what it writes is read by every config by the same name, faults of
network and hub end in a sentence, and a killed process is resumed."""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub.utils._http
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from tests.builders import documents
from tests.hub import Hub, serving
from tlc_jax import prepare
from tlc_jax.config import DataConfig
from tlc_jax.config.data import PairsConfig
from tlc_jax.core.errors import Interrupted, UserError
from tlc_jax.data.labelled.data_sets import open_labelled
from tlc_jax.data.pairs.pair_sources import open_pairs
from tlc_jax.data.preparation import hub as hub_files
from tlc_jax.data.preparation import preparing
from tlc_jax.data.text.sources import open_source
from tlc_jax.data.text.text_packing import prepare_text
from tlc_jax.storage import sealed

CLASSES = {"label": ["negative", "positive"]}
WIKIPEDIA = [f"20231101.en/train-{i:05d}-of-00003.parquet" for i in range(3)]


def parquet(classes: dict[str, list[str]] | None = None, **columns: Any) -> bytes:
    table = pa.table(columns)
    if classes:
        features = {name: {"names": names, "_type": "ClassLabel"} for name, names in classes.items()}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return sink.getvalue().to_pybytes()


def sst2(split: str, count: int) -> bytes:
    label = [-1] * count if split == "test" else [i % 2 for i in range(count)]
    return parquet(
        CLASSES, sentence=[f"{split} {i} " for i in range(count)], label=label, idx=list(range(count))
    )


def articles(number: int) -> list[str]:
    return [f"{text}\n\n{text[::-1]}" for text in documents(30, seed=number)]


@pytest.fixture(scope="module")
def server() -> Iterator[Hub]:
    pairs = [
        {"fr": "un\tdeux\n", "en": "one two"},
        {"fr": "", "en": "nothing"},
        {"fr": "trois", "en": "three"},
    ]
    glue = {"train": 60, "validation": 20, "test": 7}
    repositories = {
        "nyu-mll/glue": {f"sst2/{s}-00000-of-00001.parquet": sst2(s, n) for s, n in glue.items()},
        "wikimedia/wikipedia": {
            **{name: parquet(id=["1"] * 30, text=articles(i)) for i, name in enumerate(WIKIPEDIA)},
            "20231101.fr/train-00000-of-00001.parquet": parquet(text=["non"]),
        },
        "wmt/wmt14": {
            f"fr-en/{split}-0000{i}-of-00002.parquet": parquet(translation=pairs)
            for split in ("train", "validation", "test")
            for i in range(2 if split == "train" else 1)
        },
        "someone/reviews": {
            "data/train.csv": b'review,stars\n"long, and\ngood",5\nbad,1\n' * 30,
            "data/test.csv": b"review,stars\nfine,5\nbad,1\n",
            "README.md": b"text",
        },
    }
    with serving(Hub(repositories)) as hub:
        yield hub


@pytest.fixture(autouse=True)
def without_faults(server: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    for faults in (server.status, server.cut, server.sent, server.whole, server.stalled, server.requests):
        faults.clear()
    server.stopped.clear()
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setattr(huggingface_hub.utils._http.time, "sleep", lambda seconds: None)  # between retries


def run(out: Path, name: str, *options: str) -> dict[str, Any]:
    """Prepare, and return what the manifest says of it."""
    prepare.main([name, "--out", str(out), *options])
    return sealed.open_sealed(out)["prepared"]


# --- what is written is what the hub has, and is read by every config ----------------------------------


def test_a_task_of_glue_is_read_by_its_name(
    server: Hub, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    about = run(tmp_path / "sst2", "glue/sst2")
    said = capsys.readouterr().out
    assert "note: train has 60 rows, the published data set 67,349" in said
    assert f"--config finetune_sst2 --init-from RUN --workdir W --data.dir {tmp_path}/sst2" in said
    assert about["revision"] == server.commit
    assert about["licence"] == "cc-by-sa-4.0"
    assert about["counts"]["train"] == {
        "rows": 60,
        "characters": 530,
        "labels": {"negative": 30, "positive": 30},
    }
    content = server.repositories["nyu-mll/glue"]["sst2/train-00000-of-00001.parquet"]
    (tmp_path / "same").write_bytes(content)
    assert about["inputs"][0]["sha256"] == sealed.sha256(tmp_path / "same")
    source = open_labelled(DataConfig(name="glue/sst2", dir=str(tmp_path / "sst2")))
    assert source.label_names == ("negative", "positive")
    assert source.reported == ("validation",)
    assert source.read("train").texts[:2] == [("train 0 ",), ("train 1 ",)]
    assert source.read("validation").labels == [i % 2 for i in range(20)]
    assert source.description.endswith(
        f"sst2; prepared glue/sst2, revision {server.commit[:12]}, licence cc-by-sa-4.0"
    )
    assert "not read" not in str(source.notes)
    (tmp_path / "glue").mkdir()
    (tmp_path / "sst2").rename(tmp_path / "glue" / "sst2")  # as one folder for all data sets
    model = open_labelled(DataConfig(name="glue/sst2", dir=str(tmp_path)), ("positive", "negative"))
    assert model.unlabelled == ("test",)
    assert model.read("validation").labels[:2] == [1, 0]


def test_wikipedia_is_text_whose_manifest_a_run_quotes(server: Hub, tmp_path: Path) -> None:
    about = run(tmp_path / "text" / "wikipedia", "wikipedia")
    config = DataConfig(dir=str(tmp_path / "text"), cache_dir=str(tmp_path / "cache"), held_out=0.1)
    source = open_source(config)
    expected = [text for i in range(3) for text in articles(i)]
    assert list(source.documents()) == expected
    assert "left out" not in source.description
    assert about["counts"] == {"train": {"rows": 90, "characters": sum(map(len, expected))}}
    [quote] = prepare_text(config, 300, Console(quiet=True)).manifest["prepared_data"]
    assert quote == {
        **{field: about[field] for field in ("name", "kind", "revision", "licence", "counts")},
        "manifest_sha256": sealed.sha256(tmp_path / "text" / "wikipedia" / "manifest.json"),
    }


def test_wmt14_is_pairs_by_the_name_of_the_config(server: Hub, tmp_path: Path) -> None:
    about = run(tmp_path / "wmt", "wmt14_translate/fr-en")
    sets = open_pairs(PairsConfig(dir=str(tmp_path / "wmt")))
    pairs = [("one two", "un deux"), ("three", "trois")]
    assert list(sets.train[0].pairs()) == 2 * pairs
    assert [list(source.pairs()) for source in (*sets.validation, *sets.test)] == [pairs, pairs]
    assert sets.description.endswith(
        f":train; prepared wmt14_translate/fr-en, revision {server.commit[:12]}, licence cc-by-sa-4.0"
    )
    assert about["counts"]["train"] == {"rows": 4, "characters": 48, "left_out": {"an empty text": 2}}
    with pytest.raises(UserError, match=r"has no split 'dev' of wmt14_translate/fr-en"):
        open_pairs(PairsConfig(dir=str(tmp_path / "wmt"), validation="wmt14_translate/fr-en:dev"))


def test_any_data_set_of_the_hub(server: Hub, tmp_path: Path) -> None:
    address = f"hf://datasets/someone/reviews@{server.commit}/data"
    about = run(tmp_path / "a", "labelled", "--input", address, "--columns", "text=review", "label=stars")
    assert about["revision"] == server.commit
    source = open_labelled(DataConfig(dir=str(tmp_path / "a")))
    assert source.read("train").texts[:2] == [("long, and\ngood",), ("bad",)]
    assert source.reported == ("test",)
    with pytest.raises(UserError, match=r"no column text; it has review, stars: .* --columns text=NAME"):
        run(tmp_path / "b", "labelled", "--input", address)
    with pytest.raises(UserError, match=r"has no file of \.txt, .*: name another --input"):
        run(tmp_path / "c", "text", "--input", address)


def test_what_was_changed_since_is_not_read_as_what_it_was(server: Hub, tmp_path: Path) -> None:
    run(tmp_path / "sst2", "glue/sst2")
    path = tmp_path / "sst2" / "validation.jsonl.zst"
    path.write_bytes(pa.Codec("zstd").compress(b'{"text": "a", "label": "positive"}\n', asbytes=True))
    config = DataConfig(name="glue/sst2", dir=str(tmp_path / "sst2"))
    with pytest.raises(UserError, match=r"validation\.jsonl\.zst was changed since prepare wrote it"):
        open_labelled(config).identity()
    manifest = tmp_path / "sst2" / "manifest.json"
    manifest.write_text(manifest.read_text().replace("cc-by", "cc-0"))
    with pytest.raises(UserError, match=r"its manifest cannot be used .* prepare it again"):
        open_labelled(config)


def test_what_is_missing_is_answered_with_the_command_that_gets_it(tmp_path: Path) -> None:
    message = (
        r"glue/sst2 is not prepared under .*: get it with .*prepare glue/sst2 --out DIR, and give --data\.d"
    )
    with pytest.raises(UserError, match=message):
        open_labelled(DataConfig(name="glue/sst2", dir=str(tmp_path)))
    with pytest.raises(UserError, match=r"wmt14_translate/fr-en --out DIR, and give --data\.dir DIR"):
        open_pairs(PairsConfig(dir=str(tmp_path)))


# --- once, and one at a time -----------------------------------------------------------------------------


def test_it_is_prepared_once(server: Hub, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "a folder"
    out.mkdir()
    run(out, "glue/sst2")
    server.requests.clear()
    before = sealed.sha256(out / "manifest.json")
    run(out, "glue/sst2")
    assert "holds it already: glue/sst2 (train 60, validation 20, test 7 rows)" in capsys.readouterr().out
    assert not server.requests
    assert sealed.sha256(out / "manifest.json") == before
    with pytest.raises(UserError, match=r"a folder is not empty: give a new folder"):
        run(out, "wikipedia")


def test_a_beginning_is_resumed_by_the_same_request_alone(server: Hub, tmp_path: Path) -> None:
    server.status[WIKIPEDIA[1]] = [404]
    with pytest.raises(UserError, match="HTTP 404"):
        run(tmp_path / "a", "wikipedia")
    with pytest.raises(
        UserError, match=r"a\.unfinished is the beginning of another .*\(name: wikipedia in place of pg19"
    ):
        run(tmp_path / "a", "pg19")
    server.requests.clear()
    server.repositories["wikimedia/wikipedia"]["20231101.en/train-00009-of-00003.parquet"] = b""
    del server.repositories["wikimedia/wikipedia"]["20231101.en/train-00009-of-00003.parquet"]
    assert run(tmp_path / "a", "wikipedia")["counts"]["train"]["rows"] == 90
    assert WIKIPEDIA[0] not in dict(server.requests)
    assert not list(tmp_path.glob("a.unfinished"))


# --- faults of the network and of the hub -----------------------------------------------------------------


def test_without_a_network_it_ends_in_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stuck = threading.Event()

    def hang(*arguments: Any, **options: Any) -> None:
        stuck.wait(10)
        raise OSError

    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{closed.getsockname()[1]}")
        for name, hint in (
            (
                "glue/sst2",
                r"download https://\S+/SST-2\.zip on another machine, and give --input SST-2\.zip here",
            ),
            (
                "wikipedia",
                r"run hf download wikimedia/wikipedia .*'20231101\.en/\*\.parquet' ",
            ),
            (
                "wmt14_translate/fr-en",
                r"\(or training-parallel-europarl-v7\.tgz, .*dev\.tgz\), bring FOLDER here",
            ),
        ):
            start = time.monotonic()
            with pytest.raises(
                UserError, match=rf"127\.0\.0\.1 cannot be reached \(Connection refused\): .*{hint}"
            ):
                run(tmp_path / "a", name)
            assert time.monotonic() - start < 1
        monkeypatch.setattr(hub_files.socket, "create_connection", hang)
        start = time.monotonic()
        with pytest.raises(UserError, match=r"no answer within 1 s; HF_HUB_ETAG_TIMEOUT=10 waits longer"):
            run(tmp_path / "a", "glue/sst2")
        assert time.monotonic() - start < 2
        stuck.set()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match="HF_HUB_OFFLINE is set"):
        run(tmp_path / "a", "glue/sst2")
    assert not list(tmp_path.iterdir())


def test_what_is_not_on_the_hub_is_named(server: Hub, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nobody/nothing is not on the hub, or not for you \(HTTP 404\)"):
        run(tmp_path / "a", "text", "--input", "hf://datasets/nobody/nothing")
    with pytest.raises(UserError, match=r"wikimedia/wikipedia has no revision abc: give another --revision"):
        run(tmp_path / "a", "wikipedia", "--revision", "abc")
    with pytest.raises(UserError, match=r"nyu-mll/glue has no cola/train-\*\.parquet at this revision"):
        run(tmp_path / "a", "glue/cola")
    with pytest.raises(UserError, match=r"BookCorpus is not distributed any more; pg19, .* takes its place"):
        run(tmp_path / "a", "bookcorpus")
    with pytest.raises(
        UserError, match=r"glue/sst is no data set that prepare knows; perhaps glue/sst2; it knows"
    ):
        run(tmp_path / "a", "glue/sst")
    assert not list(tmp_path.iterdir())


def test_an_error_that_passes_is_retried(server: Hub, tmp_path: Path) -> None:
    server.status[WIKIPEDIA[0]] = [500, 503, 429]
    server.whole.add(WIKIPEDIA[1])  # a server that sends files as a whole
    assert run(tmp_path / "a", "wikipedia")["counts"]["train"]["rows"] == 90


@pytest.mark.parametrize("fault", ["500", "half a file"])
def test_an_error_that_stays_can_be_resumed(fault: str, server: Hub, tmp_path: Path) -> None:
    if fault == "500":
        server.status[WIKIPEDIA[1]] = [500] * 100
    else:
        server.cut.add(WIKIPEDIA[1])
    with pytest.raises(
        Interrupted, match=rf"the hub did not send {WIKIPEDIA[1]} .*; run the same command again"
    ):
        run(tmp_path / "a", "wikipedia")
    assert not (tmp_path / "a").exists(), "nobody takes a part for the whole"
    server.status.clear()
    server.cut.clear()
    server.requests.clear()
    run(tmp_path / "a", "wikipedia")
    assert WIKIPEDIA[0] not in dict(server.requests)
    run(tmp_path / "b", "wikipedia")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_what_was_changed_on_the_way_is_refused(server: Hub, tmp_path: Path) -> None:
    content = bytearray(server.repositories["wikimedia/wikipedia"][WIKIPEDIA[2]])
    content[100] ^= 1
    server.sent[WIKIPEDIA[2]] = bytes(content)
    small = b"review,stars\nFine,5\nbad,1\n"
    server.sent["data/test.csv"] = small  # too small for Git LFS: only git's digest is known
    for name, options in (("wikipedia", ()), ("labelled", ("--input", "hf://datasets/someone/reviews/data"))):
        with pytest.raises(
            UserError, match=r"but the hub lists .*: it was changed on the way, and is removed"
        ):
            run(tmp_path / name, name, *options)
    server.sent.clear()
    assert run(tmp_path / "wikipedia", "wikipedia")["counts"]["train"]["rows"] == 90


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix == ".zst"}


# --- kill -9 ---------------------------------------------------------------------------------------


def test_what_is_killed_at_the_very_end_is_not_fetched_again(
    server: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before it is sealed, after that, and after it has its name."""
    out = tmp_path / "a"

    def killed(*arguments: Any, **options: Any) -> None:
        raise SystemExit

    for module, name in ((sealed, "seal"), (Path, "rename"), (preparing.shutil, "rmtree")):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, killed)
            with pytest.raises(SystemExit):
                run(out, "wikipedia")
        assert out.exists() == (name == "rmtree")
        assert len(server.requests) == 3
    run(out, "wikipedia")
    assert len(server.requests) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_killed_process_is_resumed_in_the_middle_of_a_file(tmp_path: Path) -> None:
    """The second of three files is larger than what is asked for at a time; the process is killed while it
    waits for the rest."""
    large = base64.b64encode(os.urandom(15 << 20)).decode()
    texts = [large[i : i + 100_000] for i in range(0, len(large), 100_000)]
    files = {
        WIKIPEDIA[0]: parquet(text=["first"]),
        WIKIPEDIA[1]: parquet(text=texts),
        WIKIPEDIA[2]: parquet(text=["last"]),
    }
    block = hub_files._BLOCK
    assert block < len(files[WIKIPEDIA[1]]) < 2 * block
    out = tmp_path / "wikipedia"
    with serving(Hub({"wikimedia/wikipedia": files}, stalled={WIKIPEDIA[1]: block})) as hub:
        hub.stopped.set()
        command = [sys.executable, "-m", "tlc_jax.prepare", "wikipedia", "--out", str(out)]
        process = subprocess.Popen(
            command, env={**os.environ, "HF_ENDPOINT": hub.url}, stdout=subprocess.DEVNULL
        )
        while (WIKIPEDIA[1], block) not in hub.requests:
            assert process.poll() is None
            time.sleep(0.02)
        time.sleep(0.1)
        process.send_signal(signal.SIGKILL)
        process.wait()
        hub.stopped.clear()
        unfinished = tmp_path / "wikipedia.unfinished"
        assert (unfinished / "data" / "train-00000-of-00003.jsonl.zst").exists()
        parts = [path.stat().st_size for path in unfinished.glob("inputs/*.part")]
        assert parts == [block]
        hub.requests.clear()
        done = subprocess.run(
            command, env={**os.environ, "HF_ENDPOINT": hub.url}, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert "1 of 3 shards are there already" in done.stdout
        assert hub.requests == [(WIKIPEDIA[1], block), (WIKIPEDIA[2], 0)]
    source = open_source(DataConfig(dir=str(out)))
    assert list(source.documents()) == ["first", *texts, "last"]
    assert not unfinished.exists()
