"""Each message that docs/usage/troubleshooting.md quotes is one that the source has."""

from __future__ import annotations

import ast
import functools
import re

import pytest

from tests.project.documents import ROOT

PAGE = (ROOT / "docs" / "usage" / "troubleshooting.md").read_text(encoding="utf-8")
QUOTED = re.findall(r"^\| `(.+?)` \| .+ \|$", PAGE, flags=re.MULTILINE)
_LEAST = 10  # letters of its own that a text in the source must have to be recognized by
_PHRASE = 3  # words from which on what is named must be a text in the source, too


def pieces_of(node: ast.AST) -> list[str | None]:
    """The constant pieces of a text in the source; None stands for what is named."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return [node.value]
    if isinstance(node, ast.JoinedStr):
        return [piece.value if isinstance(piece, ast.Constant) else None for piece in node.values]  # type: ignore[misc]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        sides = [pieces_of(side) or [None] for side in (node.left, node.right)]
        return [] if sides == [[None], [None]] else [*sides[0], *sides[1]]
    return []


@functools.cache
def texts() -> tuple[list[re.Pattern[str]], list[re.Pattern[str]]]:
    """All texts of the source, and the beginnings of those that name something, up to there."""
    whole, beginnings = [], []
    for path in (ROOT / "tlc_jax").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            pieces = pieces_of(node)
            for end in range(1, len(pieces) + 1):
                words = "".join(piece or "" for piece in pieces[:end])
                if len(words) < _LEAST:
                    continue
                text = re.compile(
                    "".join("(.*?)" if piece is None else re.escape(piece) for piece in pieces[:end])
                )
                if end == len(pieces):
                    whole.append(text)
                elif pieces[end - 1] is None:
                    beginnings.append(text)
    return whole, beginnings


def is_in_the_source(message: str) -> bool:
    """`...` stands for anything, at the end for the rest of the message."""
    whole, beginnings = texts()
    for text in [*whole, *(beginnings if message.endswith("...") else [])]:
        if match := text.fullmatch(message):
            named = [group for group in match.groups() if "..." not in group]
            if all(len(group.split()) < _PHRASE or is_in_the_source(group) for group in named):
                return True
    return False


@pytest.mark.parametrize("message", QUOTED)
def test_a_quoted_message_is_in_the_source(message: str) -> None:
    assert is_in_the_source(message)


def test_messages_that_are_not_there_are_noticed() -> None:
    assert len(QUOTED) > 25
    for message in (
        "the NVIDIA GPU of this machine (/dev/nvidia0) is idle",
        "batch_size is 100, which does not split over 8 devices: use a number of rows that fits",
        "interrupted; run it again to resume",
        "",
    ):
        assert not is_in_the_source(message), message
