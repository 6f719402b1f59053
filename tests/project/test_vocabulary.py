"""The words of the field, in names and in sentences (docs/architecture.md), and one list of kinds."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent.parent / "tlc_jax"
FILES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))
PACKAGES = sorted({path.parts[0] if len(path.parts) > 1 else "commands" for path in FILES})
# a variable is named for what it holds
NAMES = {"own", "found", "told", "place", "places", "lies"}
SENTENCES = {  # in comments, docstrings and messages: what to write instead
    r"doors?": "command, entry point",
    r"floor \d": "level",
    r"(go|goes|going|went) on": "resume, continue",
    r"told": "reported, printed, shown",
    r"lies": "sharding",
    r"strangers?": "untrusted",
    r"anybody's": "any Hugging Face checkpoint, another program's",
}
PATTERN = re.compile("|".join(rf"\b(?:{word})\b" for word in SENTENCES), re.IGNORECASE)
# where an object's class may decide what is done with it
KINDS = {"tasks/kinds.py", "models/families.py"}
KIND = re.compile(r"(Config|Task|QTensor|Leaf)$")


def package(path: Path) -> str:
    return path.parts[0] if len(path.parts) > 1 else "commands"


def named(node: ast.AST) -> Iterator[ast.Name | ast.arg]:
    """The variables that a statement or a signature introduces."""
    if isinstance(node, ast.arg) or (isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)):
        yield node


def old_words(path: Path) -> list[str]:
    """Each as FILE:LINE: word."""
    text = (PACKAGE / path).read_text(encoding="utf-8")
    words = []
    for node in ast.walk(ast.parse(text)):
        for variable in named(node):
            name = variable.id if isinstance(variable, ast.Name) else variable.arg
            if name in NAMES:
                words.append(f"tlc_jax/{path}:{variable.lineno}: variable {name}")
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in (tokenize.COMMENT, tokenize.STRING):
            for match in PATTERN.finditer(token.string):
                line = token.start[0] + token.string[: match.start()].count("\n")
                words.append(f"tlc_jax/{path}:{line}: {match[0]}")
    return words


@pytest.mark.parametrize("name", PACKAGES)
def test_names_and_sentences_use_the_words_of_the_field(name: str) -> None:
    words = [word for path in FILES if package(path) == name for word in old_words(path)]
    assert not words, "\n".join(words)


def asked_for_a_class(node: ast.AST) -> list[str]:
    """The classes that an expression or a pattern asks an object for."""
    if isinstance(node, ast.Call) and ast.unparse(node.func) in ("isinstance", "issubclass"):
        return re.findall(r"\w+", ast.unparse(node.args[1]))
    if isinstance(node, ast.MatchClass):
        return [ast.unparse(node.cls)]
    if isinstance(node, ast.Compare) and any(isinstance(op, ast.Is | ast.IsNot) for op in node.ops):
        return re.findall(r"\w+", ast.unparse(node)) if "type(" in ast.unparse(node) else []
    return []


def test_only_lists_of_kinds_ask_which_kind_it_is() -> None:
    places = []
    for path in FILES:
        for node in ast.walk(ast.parse((PACKAGE / path).read_text(encoding="utf-8"))):
            kinds = [name for name in asked_for_a_class(node) if KIND.search(name)]
            if kinds and path.as_posix() not in KINDS:
                places.append(f"tlc_jax/{path}:{node.lineno}: {ast.unparse(node)}")  # type: ignore[attr-defined]
    print(*places, sep="\n")
    assert not places, "\n".join(places)
