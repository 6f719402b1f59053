"""The embedded text: prose of docstrings, taken from source files without importing them."""

from __future__ import annotations

import multiprocessing
import sys
import time
from pathlib import Path

import pytest

from tlc_jax.core import stopping
from tlc_jax.core.errors import Interrupted
from tlc_jax.data.text import installed_docs
from tlc_jax.data.text.installed_docs import module_docstrings, paragraphs

SOURCE = '''"""A module about nothing that raises when imported."""
raise SystemError
def f(x):
    """Return the larger of two numbers that were given.

    Parameters
    ----------
    x : array_like
        The numbers from which the larger one is taken.

    >>> f(3)
    3

    Both numbers may be negative, see the notes below. >>> is kept inside a line.
    """
add_newdoc("pkg", "name", """
    Documentation of a compiled function, of some length.
    """)
'''


def test_prose_of_a_module(tmp_path: Path) -> None:
    path = tmp_path / "m.py"
    path.write_text(SOURCE)
    assert module_docstrings(path) == [
        ["A module about nothing that raises when imported."],
        [
            "Return the larger of two numbers that were given.",
            "Parameters x : array_like The numbers from which the larger one is taken.",
            "Both numbers may be negative, see the notes below. >>> is kept inside a line.",
        ],
        ["Documentation of a compiled function, of some length."],
    ]
    path.write_text("def broken(:\n")
    assert module_docstrings(path) == []


def test_code_and_tables_are_dropped() -> None:
    text = (
        "Title of it all\n===============\n\n>>> a + b\nresult of a and b together\n\n.. note:: a directive"
    )
    assert paragraphs(text) == []
    assert paragraphs("Some words that tell a story::\n\n+----+\n| aa |\n+----+") == [
        "Some words that tell a story::"
    ]


def test_the_real_thing_without_duplicates() -> None:
    """Two packages only; the whole takes half a minute."""
    names, paths = zip(*installed_docs.package_modules("optax"), strict=True)
    assert all(name.startswith("optax/") and "test" not in name.split("/") for name in names)
    before = set(sys.modules)
    texts = list(installed_docs._documents([*paths, *paths]))
    assert not {name for name in set(sys.modules) - before if name.startswith("optax")}
    lines = [line for document in texts for line in document.split("\n")]
    assert len(lines) == len(set(lines)) > 500
    text = " ".join(lines).lower()
    assert text.count(" the ") > 1000
    assert "gradient" in text


def test_the_source_states_its_versions() -> None:
    source = installed_docs.installed_docs()
    assert set(source.origin["versions"]) == {"python", *installed_docs.PACKAGES}
    assert len(source.files) > 1500
    assert "python/pydoc_data/topics.py" in source.files
    assert not any("site-packages" in name for name in source.files)


def test_reading_stops_when_asked_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the children that read."""
    path = tmp_path / "m.py"
    path.write_text(SOURCE, encoding="utf-8")
    monkeypatch.setattr(stopping, "_requested", True)
    with pytest.raises(Interrupted):
        installed_docs.read_docstrings([path])
    # not join(): the pool's own thread may have reaped the child and not have said so yet
    deadline = time.monotonic() + 30
    while multiprocessing.active_children() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not multiprocessing.active_children()
    assert path not in installed_docs._READ
    monkeypatch.undo()
    assert installed_docs.read_docstrings([path]) == [module_docstrings(path)]
