"""Reads the documents: their commands, their links, the names of their headings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    ROOT / "launch" / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
_NOT_RUN = re.compile(r"<!-- not run: (.+) -->")
_COMMAND = re.compile(
    r"(srun )?(python -m|python benchmarks/|tlc|pip install|export|taskset) ?"
    r"|(bash |python |sbatch .*)?launch/\w+\.\w+ ?"
)


@dataclass(frozen=True)
class Block:
    """An indented or fenced block of a document."""

    document: Path
    line: int
    language: str
    text: str
    reason: str
    """Why its commands are not run; empty: they are."""


@dataclass(frozen=True)
class Command:
    block: Block
    text: str
    """One line, without continuations."""

    def __str__(self) -> str:
        return f"{self.block.document.relative_to(ROOT)}:{self.block.line}: {self.text}"


def blocks(document: Path) -> Iterator[Block]:
    """All blocks of code; the reason for not running one stands in a comment above it."""
    lines = document.read_text(encoding="utf-8").splitlines()
    number, reason = 0, ""
    while number < len(lines):
        line = lines[number]
        if match := _NOT_RUN.fullmatch(line.strip()):
            reason = match[1]
        elif fence := re.match(r"\s*```(\w*)", line):
            end = next(i for i in range(number + 1, len(lines)) if lines[i].strip() == "```")
            yield Block(document, number + 1, fence[1], "\n".join(lines[number + 1 : end]), reason)
            number, reason = end, ""
        elif line.startswith("    ") and not lines[number - 1].strip():
            end = number
            while end < len(lines) and (lines[end].startswith("    ") or not lines[end].strip()):
                end += 1
            yield Block(document, number + 1, "", "\n".join(x.strip() for x in lines[number:end]), reason)
            number, reason = end - 1, ""
        elif line.strip():
            reason = ""
        number += 1


def commands(document: Path) -> list[Command]:
    """The command lines in the blocks of a document."""
    return [
        Command(block, line.strip())
        for block in blocks(document)
        if block.language in ("", "sh")
        for line in block.text.replace("\\\n", " ").splitlines()
        if _COMMAND.match(line.strip())
    ]


def prose(document: Path) -> str:
    """A document without its blocks of code."""
    text = document.read_text(encoding="utf-8")
    for block in blocks(document):
        for line in block.text.splitlines():
            text = text.replace(line, "", 1) if line.strip() else text
    return text


def links(document: Path) -> list[str]:
    """Where its links and pictures lead."""
    return re.findall(r"\[(?:[^\[\]]|!\[.*?\]\(.*?\))*\]\(([^()\s]+)\)", prose(document))


def anchors(document: Path) -> set[str]:
    """What may stand after # in a link to a heading of a document, as GitHub makes it."""
    headings = re.findall(r"^#+ (.+)$", prose(document), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
