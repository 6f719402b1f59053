"""A server of the page for browsers of this machine: on the loopback address alone, and for requests that
name it, so that no other page can read it by a name that leads here (DNS rebinding)."""

from __future__ import annotations

import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tlc_jax.core.errors import UserError

HOST = "127.0.0.1"
_LAST_PORT = 65_535


class PageServer:
    """Serves one page, which may be replaced, in a thread. UserError where the port is taken."""

    def __init__(self, port: int):
        if not 0 <= port <= _LAST_PORT:
            raise UserError(f"--port must be from 0 to {_LAST_PORT}, not {port}")
        try:
            self._server = _Server((HOST, port), _Handler)
        except OSError as error:
            raise UserError(f"--port {port} cannot be used ({error}): give another, or 0") from error
        self.url = f"http://{HOST}:{self._server.server_address[1]}/"
        threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True).start()

    def show(self, page: bytes, version: str) -> None:
        """Serve this page from now on; its version tells a browser that has another one."""
        self._server.page, self._server.version = page, version

    def close(self) -> None:
        """End the thread and free the port."""
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    page, version = b"", ""
    daemon_threads = True


class _Handler(BaseHTTPRequestHandler):
    server_version, sys_version = "tlc_jax", ""

    def do_GET(self) -> None:
        self._answer(whole=True)

    def do_HEAD(self) -> None:
        self._answer(whole=False)

    def _answer(self, whole: bool) -> None:
        """The page; nothing else is served, and nobody who calls this machine by another name."""
        assert isinstance(self.server, _Server)
        port, page = self.server.server_address[1], self.server.page
        if self.headers.get("Host") not in {f"{name}:{port}" for name in (HOST, "localhost")}:
            self.send_error(HTTPStatus.FORBIDDEN, "call it by its address")
            return
        if self.path != "/":
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(page)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("ETag", f'"{self.server.version}"')
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.end_headers()
        if whole:
            self.wfile.write(page)

    def log_message(self, format: str, *arguments: object) -> None:
        """A page that asks every two seconds is not worth a line."""
