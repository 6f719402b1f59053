"""Sections, figures and tables of the paper that the project cites are in the paper (Li et al., 2020)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
CITING = ("tlc_jax", "configs", "docs", "tests", "benchmarks", "launch", "README.md", "CONTRIBUTING.md")
SECTIONS = set(
    "1 2 2.1 2.2 3 4 4.1 4.2 4.3 4.4 5 5.1 5.2 5.3 6 7 A A.1 A.2 A.3 B C D".split()  # A to D: appendices
)
NUMBERED = {"figure": 14, "table": 2, "footnote": 9}
"""How many of each there are, numbered from 1."""

_ITEM = r"(?:[A-Z](?:\.\d+)?|\d+(?:\.\d+)*)(?![\w%])"
_SPACE = r"[\s#]+"  # a comment may continue on the next line
_CITATION = re.compile(
    rf"\b(?P<kind>(?i:paper|sections?|appendi(?:x|ces)|figures?|tables?|footnotes?)),?{_SPACE}"
    rf"(?P<items>{_ITEM}(?:(?:,|{_SPACE}and|{_SPACE}to|{_SPACE}or){_SPACE}{_ITEM})*)"
)
_ROW = re.compile(r"^\| (?P<cell>[1-7A-D][^|]*) \|", re.MULTILINE)


def missing(text: str) -> Iterator[tuple[int, str]]:
    """Line and words of each citation of what the paper does not have."""
    for citation in _CITATION.finditer(text):
        kind = citation["kind"].lower().removesuffix("s")
        for item in re.findall(_ITEM, citation["items"]):
            number = int(item) if item.isdigit() else 0
            known = 1 <= number <= NUMBERED[kind] if kind in NUMBERED else item in SECTIONS
            if not known:
                yield text.count("\n", 0, citation.start()) + 1, f"{citation['kind']} {item}"


def files() -> Iterator[Path]:
    for name in CITING:
        path = ROOT / name
        for file in [path] if path.is_file() else sorted(path.rglob("*")):
            if file.suffix in (".py", ".md", ".sh") and file != Path(__file__):
                yield file


def test_every_citation_is_in_the_paper() -> None:
    wrong = [
        f"{file.relative_to(ROOT)}:{line}: {words}"
        for file in files()
        for line, words in missing(file.read_text(encoding="utf-8"))
    ]
    assert not wrong, "the paper has none of these:\n" + "\n".join(wrong)


def test_the_map_from_the_paper_to_the_code_names_its_sections() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    table = page.partition("## From the paper to the code")[2].partition("\n## ")[0]
    cells = [row["cell"] for row in _ROW.finditer(table)]
    assert len(cells) > 15
    for cell in cells:
        first = [item for item in cell.split(", ") if re.fullmatch(_ITEM, item)]
        assert first, cell
        assert set(first) <= SECTIONS, cell


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Masked language modelling (paper 3.1; fairseq)", "paper 3.1"),
        ("pruned in rounds (paper 4.3, 4.5)", "paper 4.5"),
        ("one line\n# and the paper\n# 5.4 says", "paper 5.4"),
        ("shared layers (paper, Appendix E)", "Appendix E"),
        ("Figures 2, 4 and 15", "Figures 15"),
        ("the paper's table 3", "table 3"),
        ("paper section 8", "section 8"),
        ("paper A.4", "paper A.4"),
        ("footnote 10", "footnote 10"),
    ],
)
def test_what_the_paper_does_not_have_is_noticed(text: str, words: str) -> None:
    assert [found for _, found in missing(text)] == [words]


@pytest.mark.parametrize(
    "text",
    [
        "(paper 4.2, 4.3), paper 5.3, figure 9; figures 2 to 5; table 1: 1.5e-3; footnote 7",
        "paper, appendix D; Appendix A.1; paper section 4; sections 3 and 5.1",
        "paper 2.1: 0.5 % of the paper; the paper A model; figure 5",
    ],
)
def test_what_it_has_is_not(text: str) -> None:
    assert not list(missing(text))
