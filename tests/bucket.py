"""A bucket on this machine: an emulated object store whose requests can be made to fail."""

from __future__ import annotations

import functools
import io
import logging
import os
import re
import sys
import threading
from http.server import ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

from gcp_storage_emulator.handlers.buckets import create_bucket
from gcp_storage_emulator.server import RequestHandler
from gcp_storage_emulator.storage import Storage

NAME = "bucket"
logging.getLogger("gcp_storage_emulator").setLevel(logging.CRITICAL)  # it tells of every 404


class Bucket:
    """Serves gs://bucket to this process and its children from `start` on.

    `fail_every` n: each n-th request gets 503, as of an overloaded store. `denied`: a part of names that must
    not be written (403).
    """

    def __init__(self) -> None:
        self.fail_every: int | None = None
        self.denied: str | None = None
        self.failed = self._requests = 0
        self.storage = Storage(use_memory_fs=True)
        self.turn = threading.Lock()  # the emulator's storage is not made for threads
        create_bucket(NAME, self.storage)
        self._server = _Server(("127.0.0.1", 0), functools.partial(_Handler, self))

    def start(self) -> None:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{self._server.server_port}"
        os.environ |= {
            "STORAGE_EMULATOR_HOST": url,
            "TENSORSTORE_GCS_HTTP_URL": url,
            "GOOGLE_AUTH_TOKEN_FOR_TESTING": "x",
            "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
        }

    def names(self) -> set[str]:
        """Of all objects."""
        return set(self.storage.objects.get(NAME, {}))

    def refusal(self, method: str, path: str, body: bytes) -> int | None:
        """The status of a request that fails; None for one that is served."""
        self._requests += 1
        inside, query = re.search(rb'"name": ?"([^"]+)"', body), re.search(r"[?&]name=([^&]+)", path)
        name = unquote(query[1]) if query else inside[1].decode() if inside else ""
        if self.fail_every and self._requests % self.fail_every == 0:
            self.failed += 1
            return 503
        if self.denied and method in ("POST", "PUT") and self.denied in name:
            return 403
        # "only if it is new" is nothing to the emulator; locks and the results of studies rest on it
        rests = name.endswith(("/lock", "/study.json")) or "/items/" in name
        taken = rests and "ifGenerationMatch=0" in path and name in self.names()
        return 412 if taken else None


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128  # whoever finds a full queue tries again a second later

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):  # a client may go before it has its answer
            super().handle_error(request, client_address)


class _Handler(RequestHandler):
    protocol_version = "HTTP/1.1"  # a connection serves many requests
    disable_nagle_algorithm = True  # else every other answer waits for an acknowledgement
    wbufsize = -1

    def __init__(self, bucket: Bucket, *args: Any):
        self.bucket = bucket
        super().__init__(bucket.storage, *args)

    def handle_one_request(self) -> None:
        """As the emulator's, but that the body is read before anything is decided."""
        self.raw_requestline = self.rfile.readline(65537)
        if not self.raw_requestline or not self.parse_request():
            self.close_connection = True
            return
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        stream, self.rfile = self.rfile, io.BytesIO(body)
        with self.bucket.turn:
            status = self.bucket.refusal(self.command, self.path, body)
            if status is None:
                getattr(self, f"do_{self.command}")()
            else:
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()
        self.rfile = stream
        self.wfile.flush()

    def end_headers(self) -> None:
        """With a header that the emulator forgets: without it tensorstore cannot try a write again."""
        found = re.search(r"/o/([^/?]+)", self.path)
        about = self.bucket.storage.objects.get(NAME, {}).get(unquote(found[1])) if found else None
        if self.command == "GET" and about:
            self.send_header("x-goog-generation", about["generation"])
        super().end_headers()
