"""The commands and the Python of docs/usage/export.md, in order: other programs say what ours do."""

from __future__ import annotations

import importlib
import shlex
import shutil
from pathlib import Path

import pytest

import tlc_jax
from tests.golden import make_d21cde9 as old
from tests.project.documents import ROOT, blocks

pytestmark = [pytest.mark.interop, pytest.mark.slow]
for needed in ("torch", "transformers", "compressed_tensors", "ctranslate2"):
    pytest.importorskip(needed, reason="needs the extra `interop`")

TEXTS = ["a fine film", "dull from start to end"]


def test_other_programs_say_what_ours_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = old.unpacked(tmp_path / "work")
    for name, path in (("classifier", "runs/sst2"), ("translation", "runs/enfr")):
        shutil.copytree(made / name, tmp_path / path)
    monkeypatch.chdir(tmp_path)
    printed: list = []
    names: dict = {"print": printed.append}
    for block in blocks(ROOT / "docs" / "usage" / "export.md"):
        for line in block.text.splitlines() if not block.language else []:
            if line.startswith("python -m tlc_jax."):
                module, *arguments = shlex.split(line)[2:]
                importlib.import_module(module).main(arguments)
        if block.language == "python":
            exec(compile(block.text, f"export.md:{block.line}", "exec"), names)

    dense, coded, translation = printed
    for shown, model in ((dense, "runs/sst2"), (coded, "small/sst2_4")):
        expected = [each.label for each in tlc_jax.load(model).predict(TEXTS)]
        assert [each["label"] for each in shown] == expected
    assert translation
    greedy = names["translator"].translate_batch([names["tokens"]], beam_size=1)[0].hypotheses[0]
    ids = [names["tokenizer"].token_to_id(token) for token in greedy]
    assert [names["tokenizer"].decode(ids)] == tlc_jax.load("runs/enfr").translate(["A man walks."], beams=1)
