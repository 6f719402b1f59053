"""Pages that are written for tests, read back as a browser would, and folders to write them of."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from tests.project.documents import ROOT
from tlc_jax.studies.page.page_file import write_report

GPU = ROOT / "docs" / "results" / "stores" / "translation_gpu"
QUICKSTART = ROOT / "docs" / "results" / "stores" / "quickstart_study"
TRANSLATION = ROOT / "docs" / "results" / "stores" / "translation"
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)> &amp; \"'`$&\u2028"


class Elements(HTMLParser):
    """The elements of a page with their attributes, and the text in each kind of element."""

    def __init__(self, text: str):
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[tuple[str, str]] = []
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        self._inside = tag

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        self.texts.append((self._inside, data))

    def of(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self) -> str:
        """What a reader sees, and tables that are closed."""
        return " ".join(data for tag, data in self.texts if tag not in ("script", "style"))

    @property
    def data(self) -> dict[str, Any]:
        """The JSON of the page."""
        return json.loads(next(d for tag, d in self.texts if tag == "script" and d.startswith("{")))


def written(folder: Path, *folders: Path) -> tuple[str, Elements]:
    """The page of folders, written to `folder`, and what is in it."""
    path = folder / "page.html"
    write_report([str(each) for each in folders], str(path))
    text = path.read_text(encoding="utf-8")
    assert len(text.encode()) < 1_000_000
    return text, Elements(text)


def run_of(folder: Path, values: list[float], seconds: float = 10.0, **more: Any) -> Path:
    """A run directory with so many evaluations, evenly spread."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    start = {"command": ["/x/tlc_jax/train.py", "--config", "quickstart"], "devices": ["cpu"], **more}
    (folder / "environment.json").write_text(json.dumps({"starts": [start]}))
    lines = [{"step": 0, "training_seconds": 0.0, "total_seconds": 0.0}]
    for number, value in enumerate(values, 1):
        about = {"step": number, "training_seconds": seconds * number, "total_seconds": seconds * number}
        lines.append({**about, "flops": 1e6 * number, "eval/held_out/nats_per_byte": value})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder
