"""The page while a study runs: who is served, and when it is written again."""

from __future__ import annotations

import http.client
import shutil
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.studies.pages import run_of
from tlc_jax.core import stopping
from tlc_jax.core.errors import UserError
from tlc_jax.studies.page import live_page
from tlc_jax.studies.page.page_server import PageServer


@pytest.fixture
def server() -> Iterator[PageServer]:
    server = PageServer(0)
    server.show(b"<p>one", "1")
    yield server
    server.close()


def ask(
    server: PageServer, method: str = "GET", path: str = "/", host: str | None = None
) -> tuple[int, bytes, str]:
    """(status, body, ETag) of an answer."""
    address = urllib.parse.urlsplit(server.url)
    assert address.hostname == "127.0.0.1"
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=10)
    connection.request(method, path, headers={"Host": host} if host else {})
    answer = connection.getresponse()
    body, tag = answer.read(), answer.headers.get("ETag", "")
    connection.close()
    return answer.status, body, tag


def test_the_page_is_served_and_its_tag_follows_it(server: PageServer) -> None:
    status, body, tag = ask(server)
    assert (status, body, tag) == (200, b"<p>one", '"1"')
    assert ask(server, "HEAD") == (200, b"", tag)
    server.show(b"<p>two", "2")
    assert ask(server)[1] == b"<p>two"
    assert ask(server, "HEAD")[2] == '"2"'


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{}", "127.0.0.1", "127.0.0.1:1", "127.0.0.1.evil:{}"]
)
def test_requests_by_another_name_are_refused(server: PageServer, host: str) -> None:
    port = urllib.parse.urlsplit(server.url).port
    status, body, _ = ask(server, host=host.format(port))
    assert status == 403
    assert b"<p>one" not in body
    assert ask(server, host=f"localhost:{port}")[0] == 200


@pytest.mark.parametrize("path", ["/etc/passwd", "/../x", "/?x"])
def test_nothing_but_the_page_is_served(server: PageServer, path: str) -> None:
    assert ask(server, path=path)[0] == 404


def test_nothing_is_changed_by_requests(server: PageServer) -> None:
    assert ask(server, "POST")[0] == 501


def test_a_port_that_is_taken(server: PageServer) -> None:
    port = urllib.parse.urlsplit(server.url).port
    assert port
    with pytest.raises(UserError, match=f"--port {port} cannot be used"):
        PageServer(port)


@pytest.mark.parametrize("port", [-1, 65_536])
def test_a_port_that_there_is_not(port: int) -> None:
    with pytest.raises(UserError, match=f"--port must be from 0 to 65535, not {port}"):
        PageServer(port)


def test_the_page_is_written_again_when_a_run_continues(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """Three looks: at the run as it is, at the same run, and at one with a further evaluation."""
    run, later = run_of(tmp_path / "run", [2.0]), run_of(tmp_path / "later", [2.0, 1.5])
    page, seen = tmp_path / "page.html", list[str]()

    def pause(seconds: float) -> None:
        seen.append(page.read_text())
        page.write_text("not written again")
        if len(seen) == 2:
            shutil.copy(later / "metrics.jsonl", run / "metrics.jsonl")

    monkeypatch.setattr(live_page, "_pause", pause)
    monkeypatch.setattr(stopping, "requested", lambda: len(seen) == 3)
    live_page.watch([str(run)], str(page), None)
    assert "run reaches 2 nats per byte" in seen[0]
    assert seen[1] == "not written again"
    assert "run reaches 1.5 nats per byte" in seen[2]
    assert capsys.readouterr().out.count("page: ") == 2
