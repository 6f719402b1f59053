"""Files of a data set on the Hugging Face hub: listed with their digests, downloaded in blocks, checked."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tlc_jax.core.errors import Interrupted, UserError, one_line
from tlc_jax.core.native import abandonable
from tlc_jax.core.printable import printable
from tlc_jax.core.stopping import AGAIN
from tlc_jax.data.fingerprints import sha256_of
from tlc_jax.data.preparation.input_files import Advance, Fetched
from tlc_jax.storage.network import not_answering
from tlc_jax.storage.paths import writing

_BLOCK = 16 << 20  # bytes of a request, which is what is lost at most when the process is killed
_LIST_TIMEOUT = 30.0  # seconds
_REACH_TIMEOUT = 1.0  # seconds in which the hub must accept a connection


class Unreachable(UserError):
    """There is no network, or no way to the hub."""


@dataclass(frozen=True)
class HubFile:
    """An input file at one commit of a repository. Small files have no SHA-256, but the digest that git gives
    them."""

    repository: str
    commit: str
    name: str
    bytes: int
    sha256: str | None
    git_sha1: str | None

    @property
    def identity(self) -> str:
        return self.sha256 or f"git {self.git_sha1}"

    @property
    def temporary(self) -> int:
        return self.bytes

    @property
    def downloaded(self) -> int:
        return self.bytes

    def fetch(self, folder: Path, advance: Advance) -> Fetched:
        # named for its content: an earlier process may have asked for another data set
        target = folder / f"{(self.sha256 or self.git_sha1 or '')[:16]}-{Path(self.name).name}"
        if target.exists():  # an earlier process has checked it, but not used it
            advance(self.bytes)
        else:
            self._download(target, advance)
        digest = {"sha256": self.sha256} if self.sha256 else {"git_sha1": self.git_sha1 or ""}
        return Fetched(target, {"name": self.name, "bytes": self.bytes, **digest})

    def _download(self, target: Path, advance: Advance) -> None:
        """Download to `target`, which appears once it is whole. What an earlier process has left in a file
        beside it is kept. UserError if the content is not what the hub lists; Interrupted if the network
        fails on the way."""
        part = target.with_name(f"{target.name}.part")
        ask = functools.partial(
            _asked, repository=self.repository, revision=self.commit, what=f"{self.name} of {self.repository}"
        )
        # Not `hf_hub_download`: after a kill it begins the file anew. Not its `http_get` either, which could
        # resume, but gives up at a server error.
        system = _library().HfFileSystem(endpoint=_endpoint())  # one for this thread, which keeps listings
        path = f"datasets/{self.repository}/{self.name}"
        options = {"revision": self.commit, "size": self.bytes, "cache_type": "none"}
        remote = ask(lambda: system.open(path, **options))
        with writing(part), part.open("ab") as file:
            advance(remote.seek(file.tell()))
            while (size := min(_BLOCK, self.bytes - file.tell())) > 0:
                block = ask(lambda size=size: remote.read(size))
                if len(block) != size:
                    raise Interrupted(
                        f"the hub sent {len(block):,} bytes of {self.name} in place of {size:,}; {AGAIN}"
                    )
                file.write(block)
                advance(size)
        self._check(part)
        part.replace(target)

    def _check(self, part: Path) -> None:
        """UserError, and the file is removed, if its digest is another than the hub lists."""
        expected = self.sha256 or self.git_sha1
        # without a SHA-256 it is a file of at most some megabytes
        digest = sha256_of(part) if self.sha256 else _library().utils.sha.git_hash(part.read_bytes())
        if expected is not None and digest != expected:
            part.unlink()
            raise UserError(
                f"{self.name} of {self.repository} arrived with the SHA {digest[:16]}..., but the hub lists "
                f"{expected[:16]}...: it was changed on the way, and is removed; {AGAIN}"
            )


@dataclass(frozen=True)
class Listing:
    """The files of a repository by name, the commit that they are of, and the licence on its card."""

    commit: str
    licence: str | None
    files: dict[str, HubFile]


def list_files(repository: str, revision: str | None) -> Listing:
    """All files of a data set at a revision (None: the newest). Unreachable, after a second, if there is no
    way to the hub."""
    check_reachable()
    api = _library().HfApi(endpoint=_endpoint())
    options = {"revision": revision, "files_metadata": True, "timeout": _LIST_TIMEOUT}
    info = _asked(
        lambda: api.dataset_info(repository, **options), repository, revision, f"the data set {repository}"
    )
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
    return Listing(info.sha, printable(text, 200) if text else None, files)


def check_reachable() -> None:
    """Unreachable unless the hub, or the proxy on the way to it, accepts a connection within a second, or
    within HF_HUB_ETAG_TIMEOUT seconds. The hub's library would try for half a minute."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        raise Unreachable("HF_HUB_OFFLINE is set")
    given = os.environ.get("HF_HUB_ETAG_TIMEOUT", "")
    patience = float(given) if given.isdigit() else _REACH_TIMEOUT
    if problem := not_answering(_endpoint(), patience):
        host, reason = problem
        more = "; HF_HUB_ETAG_TIMEOUT=10 waits longer" if reason.startswith("no answer") else ""
        raise Unreachable(f"{host} cannot be reached ({reason}{more})")


def _endpoint() -> str:
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")


def _library() -> Any:
    try:
        import huggingface_hub
        import huggingface_hub.utils.sha
    except ImportError as error:
        raise UserError(
            "to read from the Hugging Face hub install tlc_jax with its extra hf: pip install 'tlc-jax[hf]'"
        ) from error
    huggingface_hub.utils.logging.set_verbosity_error()  # it would warn of each retry
    return huggingface_hub


def _asked(request: Callable[[], Any], repository: str, revision: str | None, what: str) -> Any:
    """What the hub's library answers; its errors as UserError, or as Interrupted if they may pass."""
    try:
        return abandonable(request)
    except Interrupted:
        raise
    except Exception as error:
        raise _failed(error, repository, revision, what) from error


def _failed(error: Exception, repository: str, revision: str | None, what: str) -> Exception:
    errors = _library().errors
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
