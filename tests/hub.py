"""A stand-in for the Hugging Face hub on this machine: listings with digests, files in ranges, and faults."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import threading
import time
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.builders import documents
from tlc_jax import prepare
from tlc_jax.storage import sealed

CLASSES = {"label": ["negative", "positive"]}
WIKIPEDIA = [f"20231101.en/train-{i:05d}-of-00003.parquet" for i in range(3)]


@dataclass
class Hub:
    """Repositories of files by name. A fault stands under the name of its file: `status` are answers before
    the first good one, `cut` are files of which half of each answer is sent, `stalled` are beginnings of
    ranges that are not answered while `stopped` is set, `sent` other content than is listed, `whole` files
    that are sent as a whole whatever is asked."""

    repositories: dict[str, dict[str, bytes]]
    commit: str = "1234567890abcdef1234567890abcdef12345678"
    licence: str | None = "cc-by-sa-4.0"
    status: dict[str, list[int]] = field(default_factory=dict)
    cut: set[str] = field(default_factory=set)
    stalled: dict[str, int] = field(default_factory=dict)
    stopped: threading.Event = field(default_factory=threading.Event)
    sent: dict[str, bytes] = field(default_factory=dict)
    whole: set[str] = field(default_factory=set)
    requests: list[tuple[str, int]] = field(default_factory=list)
    """(name, first byte) of each range that was asked for."""
    url: str = ""

    def listing(self, repository: str) -> dict:
        entries = []
        for name, content in self.repositories[repository].items():
            entry = {"rfilename": name, "size": len(content), "blobId": git_sha1(content)}
            if len(content) > 1000:  # as Git LFS stores it
                digest = hashlib.sha256(content).hexdigest()
                entry["lfs"] = {"size": len(content), "sha256": digest, "pointerSize": 130}
            entries.append(entry)
        card = {"license": self.licence} if self.licence else {}
        return {"id": repository, "sha": self.commit, "siblings": entries, "cardData": card, "tags": []}

    def folder(self, repository: str, path: str) -> list[dict]:
        return [
            {"type": "file", "path": name, "size": len(content), "oid": git_sha1(content)}
            for name, content in self.repositories[repository].items()
            if name.rpartition("/")[0] == path
        ]


def git_sha1(content: bytes) -> str:
    return hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: object) -> None:
        pass

    def do_GET(self) -> None:
        path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
        if match := re.fullmatch(r"/api/datasets/([^/]+/[^/]+)(/revision/(.+))?", path):
            self._listing(match[1], match[3])
        elif match := re.fullmatch(r"/api/datasets/([^/]+/[^/]+)/tree/([^/]+)/(.+)", path):
            self._answer(200, json.dumps(self.hub.folder(match[1], match[3])).encode())
        elif match := re.fullmatch(r"/datasets/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self._redirect(f"/blobs/{match[1]}/{match[3]}" if match[2] == self.hub.commit else None)
        elif match := re.fullmatch(r"/blobs/([^/]+/[^/]+)/(.+)", path):
            self._file(match[1], match[2])
        else:
            self._answer(404, b"")

    def _listing(self, repository: str, revision: str | None) -> None:
        if repository not in self.hub.repositories:
            return self._answer(404, b"", {"X-Error-Code": "RepoNotFound"})
        if revision not in (None, "main", self.hub.commit):
            return self._answer(404, b"", {"X-Error-Code": "RevisionNotFound"})
        return self._answer(200, json.dumps(self.hub.listing(repository)).encode())

    def _redirect(self, target: str | None) -> None:
        if target is None:
            return self._answer(404, b"", {"X-Error-Code": "RevisionNotFound"})
        return self._answer(302, b"", {"Location": self.hub.url + urllib.parse.quote(target)})

    def _file(self, repository: str, name: str) -> None:
        hub = self.hub
        if name not in hub.repositories[repository]:
            return self._answer(404, b"", {"X-Error-Code": "EntryNotFound"})
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers["Range"])
        assert wanted, "files are asked for in ranges"
        start, end = int(wanted[1]), int(wanted[2]) + 1
        hub.requests.append((name, start))
        while hub.stalled.get(name) == start and hub.stopped.is_set():
            time.sleep(0.02)
        if hub.status.get(name):
            return self._answer(hub.status[name].pop(0), b"")
        code, content = 200, hub.sent.get(name, hub.repositories[repository][name])
        if name not in hub.whole:
            code, content = 206, content[start:end]
        return self._answer(code, content, cut=name in hub.cut)

    def _answer(
        self, code: int, content: bytes, headers: Mapping[str, str] | None = None, cut: bool = False
    ) -> None:
        self.send_response(code)
        for name, value in {**(headers or {}), "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.close_connection = cut
        with contextlib.suppress(OSError):  # the other side was killed
            self.wfile.write(content[: len(content) // 2] if cut else content)


@contextlib.contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """The hub at `hub.url`, to be HF_ENDPOINT."""
    handler = type("Handler", (_Handler,), {"hub": hub})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        hub.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()


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


def public_repositories() -> dict[str, dict[str, bytes]]:
    """Small data sets by the names of public ones, and one of somebody's own."""
    pairs = [
        {"fr": "un\tdeux\n", "en": "one two"},
        {"fr": "", "en": "nothing"},
        {"fr": "trois", "en": "three"},
    ]
    glue = {"train": 60, "validation": 20, "test": 7}
    return {
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


def run(out: Path, name: str, *options: str) -> dict[str, Any]:
    """Prepare, and return what the manifest says of it."""
    prepare.main([name, "--out", str(out), *options])
    return sealed.open_sealed(out)["prepared"]
