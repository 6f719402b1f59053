"""How much memory may still be used: never more than the machine has, nor than a container leaves."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tlc_jax.core import free_memory


def test_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(free_memory, "_CONTAINER", ())
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 0 < free_memory.free_memory() <= whole


@pytest.mark.parametrize(
    ("limit", "use", "free"),
    [("5000000\n", "2000000\n", 3_000_000), ("5000000\n", "9000000\n", 0), ("max\n", "9\n", None)],
)
def test_of_a_container(
    limit: str, use: str, free: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in (("limit", limit), ("use", use)):
        (tmp_path / name).write_text(text, encoding="utf-8")
    none = (str(tmp_path / "none"), str(tmp_path / "none"))
    monkeypatch.setattr(
        free_memory, "_CONTAINER", (none, (str(tmp_path / "limit"), str(tmp_path / "use")), none)
    )
    found = free_memory.free_memory()
    assert found == free if free is not None else found > 1 << 20


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads the resident set from /proc")
def test_what_was_freed_is_returned() -> None:
    """Pieces that the C library keeps, since one behind them is in use."""

    def resident() -> int:
        pages = Path("/proc/self/statm").read_text(encoding="utf-8").split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    pieces = [bytearray(100_000) for _ in range(800)]
    last = bytearray(100_000)
    del pieces
    before = resident()
    free_memory.return_free_memory()
    assert last is not None
    assert resident() <= before
