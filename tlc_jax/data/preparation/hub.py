"""Files of a data set on the Hugging Face hub: listed with their digests, downloaded in blocks, checked."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tlc_jax.core.errors import Interrupted, UserError, one_line
from tlc_jax.core.native import abandonable
from tlc_jax.core.printable import printable
from tlc_jax.core.stopping import AGAIN
from tlc_jax.storage.paths import writing

_BLOCK = 16 << 20  # bytes of a request, which is what is lost at most when the process is killed
_LIST_TIMEOUT = 30.0  # seconds
_REACH_TIMEOUT = 1.0  # seconds in which the hub must accept a connection


class Unreachable(UserError):
    """There is no network, or no way to the hub."""


@dataclass(frozen=True)
class HubFile:
    """A file at one commit of a repository. Small files have no SHA-256, but the digest that git gives
    them."""

    repository: str
    commit: str
    name: str
    bytes: int
    sha256: str | None
    git_sha1: str | None

    @property
    def digest(self) -> str:
        return self.sha256 or f"git {self.git_sha1}"

    def download(self, target: Path, advance: Callable[[float], None]) -> None:
        """Download to `target`, which appears once it is whole. What an earlier process has left in a file
        beside it is kept. UserError if the content is not what the hub lists; Interrupted if the network
        fails on the way."""
        part = target.with_name(f"{target.name}.part")
        with writing(part), part.open("ab") as file:
            if file.tell() > self.bytes:
                file.truncate(0)
            done = file.tell()
            advance(done)
            while done < self.bytes:
                block = abandonable(lambda start=done: self._block(start))
                file.write(block)
                done += len(block)
                advance(len(block))
        self._check(part)
        part.replace(target)

    def _block(self, start: int) -> bytes:
        end = min(start + _BLOCK, self.bytes)
        library = _library()
        url = library.hf_hub_url(
            self.repository, self.name, repo_type="dataset", revision=self.commit, endpoint=_endpoint()
        )
        headers = {**library.utils.build_hf_headers(), "range": f"bytes={start}-{end - 1}"}
        try:
            # retries with growing pauses, for about 25 seconds
            response = library.utils.http_backoff("GET", url, headers=headers, timeout=_LIST_TIMEOUT)
            library.utils.hf_raise_for_status(response)
        except Exception as error:
            raise _failed(error, self.repository, self.commit, self.name) from error
        content = response.content
        if response.status_code == 200:  # the whole file, from a server that knows no ranges
            content = content[start:end]
        if len(content) != end - start:
            raise Interrupted(
                f"the hub sent {len(content):,} bytes of {self.name} in place of {end - start:,}; {AGAIN}"
            )
        return content

    def _check(self, part: Path) -> None:
        """UserError, and the file is removed, if its digest is another than the hub lists."""
        digest = hashlib.sha256() if self.sha256 else hashlib.sha1(f"blob {self.bytes}\0".encode())
        with part.open("rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
        expected = self.sha256 or self.git_sha1
        if expected is not None and digest.hexdigest() != expected:
            part.unlink()
            raise UserError(
                f"{self.name} of {self.repository} arrived with the SHA {digest.hexdigest()[:16]}..., but "
                f"the hub lists {expected[:16]}...: it was changed on the way, and is removed; {AGAIN}"
            )


@dataclass(frozen=True)
class Listing:
    """The files of a repository by name, the commit that they are of, and the licence on its card."""

    repository: str
    commit: str
    licence: str | None
    files: dict[str, HubFile]


def list_files(repository: str, revision: str | None) -> Listing:
    """All files of a data set at a revision (None: the newest). Unreachable, after a second, if there is no
    way to the hub."""
    check_reachable()
    library = _library()

    def ask() -> Any:
        api = library.HfApi(endpoint=_endpoint())
        return api.dataset_info(repository, revision=revision, files_metadata=True, timeout=_LIST_TIMEOUT)

    try:
        info = abandonable(ask)
    except Interrupted:
        raise
    except Exception as error:
        raise _failed(error, repository, revision) from error
    card = info.card_data or {}
    licence = card.get("license")
    files = {
        entry.rfilename: HubFile(
            repository,
            info.sha,
            entry.rfilename,
            entry.size or 0,
            entry.lfs.sha256 if entry.lfs else None,
            None if entry.lfs else entry.blob_id,
        )
        for entry in info.siblings or ()
    }
    text = ", ".join(licence) if isinstance(licence, list) else licence
    return Listing(repository, info.sha, printable(text, 200) if text else None, files)


def check_reachable() -> None:
    """Unreachable unless the hub, or the proxy on the way to it, accepts a connection within a second, or
    within HF_HUB_ETAG_TIMEOUT seconds. The hub's library would try for half a minute."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        raise Unreachable("HF_HUB_OFFLINE is set")
    address = urllib.parse.urlsplit(_endpoint())
    proxy = urllib.request.getproxies().get(address.scheme)
    if proxy and not urllib.request.proxy_bypass(address.hostname or ""):
        address = urllib.parse.urlsplit(proxy if "//" in proxy else f"//{proxy}")
    port = address.port or (443 if address.scheme == "https" else 80)
    given = os.environ.get("HF_HUB_ETAG_TIMEOUT", "")
    patience = float(given) if given.isdigit() else _REACH_TIMEOUT
    problem = [f"no answer within {patience:g} s; HF_HUB_ETAG_TIMEOUT=10 waits longer"]

    def connect() -> None:
        try:
            with socket.create_connection((address.hostname, port), timeout=patience):
                problem.clear()
        except TimeoutError:
            pass
        except OSError as error:
            problem[:] = [error.strerror or one_line(error)]

    thread = threading.Thread(target=connect, daemon=True)  # names are looked up without a limit of time
    thread.start()
    thread.join(patience + 0.2)
    if problem:
        raise Unreachable(f"{address.hostname} cannot be reached ({problem[0]})")


def _endpoint() -> str:
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")


def _library() -> Any:
    try:
        import huggingface_hub
        import huggingface_hub.utils
    except ImportError as error:
        raise UserError(
            "to read from the Hugging Face hub install tlc_jax with its extra hf: pip install 'tlc-jax[hf]'"
        ) from error
    huggingface_hub.utils.logging.set_verbosity_error()  # it would warn of each retry
    return huggingface_hub


def _failed(error: Exception, repository: str, revision: str | None, name: str = "") -> Exception:
    """What to raise for an error of the hub's library: for good, or to be resumed later."""
    errors = _library().errors
    what = f"{name} of {repository}" if name else f"the data set {repository}"
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, errors.GatedRepoError):
        return UserError(
            f"{what} is given only to those who accept its terms: accept them at {_endpoint()}/datasets/"
            f"{repository}, and set HF_TOKEN"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return UserError(f"{what} has no revision {revision}: give another --revision, or none")
    if status in (401, 403, 404):
        return UserError(
            f"{what} is not on the hub, or not for you (HTTP {status}): check the name; for a private one "
            "set HF_TOKEN"
        )
    reason = f"HTTP {status}" if status else one_line(error, 160)
    return Interrupted(f"the hub did not send {what} ({reason}); what has arrived is kept; {AGAIN}")
