"""Faults of network and hub while `prepare` downloads end in a sentence, and a killed process is resumed."""

from __future__ import annotations

import base64
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.hub import WIKIPEDIA, Hub, parquet, run, serving
from tlc_jax.config import DataConfig
from tlc_jax.core.errors import Interrupted, UserError
from tlc_jax.data.preparation import hub as hub_files
from tlc_jax.data.preparation import preparing
from tlc_jax.data.text.sources import open_source
from tlc_jax.storage import network, sealed


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
        monkeypatch.setattr(network.socket, "create_connection", hang)
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


@pytest.mark.parametrize("fault", ["500", "half a file", "a whole file"])
def test_an_error_that_stays_can_be_resumed(
    fault: str, server: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = rf"the hub did not send {WIKIPEDIA[1]} .*; run the same command again"
    with monkeypatch.context() as patch:
        if fault == "500":
            server.status[WIKIPEDIA[1]] = [500] * 100
        elif fault == "half a file":
            server.cut.add(WIKIPEDIA[1])
        else:  # in place of the range that is asked for
            patch.setattr(hub_files, "_BLOCK", 1000)
            server.whole.add(WIKIPEDIA[1])
            message = rf"the hub sent .* of {WIKIPEDIA[1]} in place of 1,000; run the same command again"
        with pytest.raises(Interrupted, match=message):
            run(tmp_path / "a", "wikipedia")
    assert not (tmp_path / "a").exists(), "nobody takes a part for the whole"
    for faults in (server.status, server.cut, server.whole, server.requests):
        faults.clear()
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
