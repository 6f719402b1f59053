"""Every text is read and written as UTF-8, never in the encoding of a locale."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parent.parent.parent / "tlc_jax"


def without_encoding(path: Path) -> Iterator[int]:
    """Lines of calls that open a file as text and name no encoding: methods of paths, and `open`."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call) or any(keyword.arg == "encoding" for keyword in node.keywords):
            continue
        method = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        function = node.func.id if isinstance(node.func, ast.Name) else ""
        owner = node.func.value.id if method and isinstance(node.func.value, ast.Name) else ""
        values = [ast.unparse(value) for value in [*node.args, *(k.value for k in node.keywords)]]
        binary = any(value in ("'rb'", "'wb'", "'ab'", "'r+b'", "'xb'") for value in values)
        opens = (
            method == "open" and owner != "os" and (not values or values[0] in ("'r'", "'w'", "'a'", "'x'"))
        )
        if method in ("read_text", "write_text") or opens or (function == "open" and not binary):
            yield node.lineno


def test_the_locale_decides_nothing() -> None:
    found = [f"{path}:{line}" for path in sorted(PACKAGE.rglob("*.py")) for line in without_encoding(path)]
    assert found == []


def test_such_calls_are_found(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(
        "p.read_text()\np.write_text(x)\nopen(p)\np.open()\np.open('w')\nopen(p, 'w')\n"
        "p.read_text(encoding='utf-8')\nopen(p, 'rb')\np.open('rb')\nos.open(p, f)\nwrite_text(p, x)\n",
        encoding="utf-8",
    )
    assert list(without_encoding(tmp_path / "a.py")) == [1, 2, 3, 4, 5, 6]
