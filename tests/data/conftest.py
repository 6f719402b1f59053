"""Fixtures: a stand-in for the Hugging Face hub, for the tests of `prepare`; tokenizers of encoders."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.data.encoder_tokenizers import KINDS, write
from tests.hub import Hub, public_repositories, serving


@pytest.fixture(scope="module")
def small_hub() -> Iterator[Hub]:
    with serving(Hub(public_repositories())) as hub:
        yield hub


@pytest.fixture
def server(small_hub: Hub, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """The hub, without faults, at HF_ENDPOINT; retries follow each other at once."""
    hub = small_hub
    for faults in (hub.status, hub.cut, hub.sent, hub.whole, hub.stalled, hub.requests):
        faults.clear()
    hub.stopped.clear()
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    return hub


@pytest.fixture(scope="session")
def tokenizer_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The tokenizer.json of each kind."""
    folder = tmp_path_factory.mktemp("tokenizers")
    return {name: write(make(), folder / name) for name, make in KINDS.items()}
