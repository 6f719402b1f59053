"""Whether a server answers at all. Libraries of object stores and hubs try for minutes first."""

from __future__ import annotations

import socket
import threading
import time
import urllib.parse
import urllib.request

from tlc_jax.core.errors import one_line

_INTERVAL = 0.5  # seconds between attempts


def not_answering(url: str, patience: float, insist: bool = False) -> tuple[str, str] | None:
    """Why neither the server of a URL nor the proxy on the way to it accepts a connection within `patience`
    seconds: its name and the reason. None if it does. With `insist` a refusal is no answer either: it may be
    that of a machine whose network is just starting."""
    address = urllib.parse.urlsplit(url)
    proxy = urllib.request.getproxies().get(address.scheme)
    if proxy and not urllib.request.proxy_bypass(address.hostname or ""):
        address = urllib.parse.urlsplit(proxy if "//" in proxy else f"//{proxy}")
    port = address.port or (443 if address.scheme == "https" else 80)
    reasons: list[str] = []
    until = time.monotonic() + patience
    answered = threading.Event()

    def connect() -> None:
        while (left := until - time.monotonic()) > 0:
            try:
                with socket.create_connection((address.hostname, port), timeout=left):
                    answered.set()
                    return
            except TimeoutError:
                return
            except OSError as error:
                reasons[:] = [error.strerror or one_line(error)]
                if not insist:
                    return
                time.sleep(_INTERVAL)

    thread = threading.Thread(target=connect, daemon=True)  # names are looked up without a limit of time
    thread.start()
    thread.join(patience + 0.2)
    if answered.is_set():
        return None
    return str(address.hostname), reasons[0] if reasons else f"no answer within {patience:g} s"
