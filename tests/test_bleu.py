"""BLEU against perl, against its formula, and against sacrebleu's own command line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tlc_jax import evaluate
from tlc_jax.core.errors import UserError
from tlc_jax.tasks.bleu import compounds_split, plain_bleu, scores, tokenized

GOLDEN = json.loads((Path(__file__).with_name("golden") / "bleu.json").read_text())
SIDES = ("hypotheses", "references")


def test_tokens_and_split_compounds_equal_the_golden_file() -> None:
    for side, tokens, split in zip(SIDES, GOLDEN["tokens"], GOLDEN["split"], strict=True):
        ours = [tokenized(line, "fr") for line in GOLDEN[side]]
        assert ours == tokens
        assert [compounds_split(line) for line in ours] == split


def test_hyphens_are_split_as_perl_splits_bytes() -> None:
    assert compounds_split("c'est-à-dire") == "c'est ##AT##-##AT## à ##AT##-##AT## dire"
    assert compounds_split("a-b-c") == "a ##AT##-##AT## b-c"  # one byte is used up once
    assert compounds_split("- a -b c-") == "- a -b c-"


def test_bleu_equals_its_formula() -> None:
    found = scores(GOLDEN["hypotheses"], GOLDEN["references"], "fr")
    assert found["bleu_tokenized"] == pytest.approx(GOLDEN["bleu_tokenized"], abs=1e-9)
    assert found["bleu_compounds"] == pytest.approx(GOLDEN["bleu_compounds"], abs=1e-9)
    assert len({found[name] for name in ("bleu", "bleu_intl", "bleu_tokenized", "bleu_compounds")}) == 4
    assert plain_bleu(["a b c d"], ["a b c d"]) == pytest.approx(100)
    assert plain_bleu(["a b c d"], ["e f g h"]) == 0


def write(folder: Path) -> list[str]:
    paths = []
    for side in SIDES:
        paths.append(str(folder / side))
        Path(paths[-1]).write_text("".join(f"{line}\n" for line in GOLDEN[side]))
    return paths


def test_evaluating_files_equals_the_command_line_of_sacrebleu(tmp_path: Path, capsys) -> None:
    hypotheses, references = write(tmp_path)
    evaluate.main(["--hypotheses", hypotheses, "--references", references, "--json"])
    found = json.loads(capsys.readouterr().out)
    command = [
        sys.executable,
        "-m",
        "sacrebleu",
        references,
        "-i",
        hypotheses,
        "-m",
        "bleu",
        "chrf",
        "-w",
        "6",
    ]
    told = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    assert [found["bleu"], found["chrf"]] == [pytest.approx(own["score"], abs=1e-6) for own in told]
    assert found["signature"].startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--hypotheses", "HYP"], "give either"),
        (["--checkpoint", "x", "--hypotheses", "HYP", "--references", "REF"], "give either"),
        (["--hypotheses", "HYP", "--references", "none"], "--references none cannot be read"),
        (["--hypotheses", "SHORT", "--references", "REF"], "has 1 lines and .* has 6"),
        (["--hypotheses", "HYP", "--references", "REF", "--language", "zz"], "--language zz is none of .*fr"),
        (["--hypotheses", "HYP", "--references", "REF", "--task", "mlm"], "go with --checkpoint"),
        (["--hypotheses", "HYP", "--references", "REF", "--data.dir", "x"], "go with --checkpoint"),
    ],
)
def test_wrong_files_are_refused(arguments: list[str], words: str, tmp_path: Path) -> None:
    hypotheses, references = write(tmp_path)
    (tmp_path / "short").write_text("one line\n")
    places = {"HYP": hypotheses, "REF": references, "SHORT": str(tmp_path / "short")}
    with pytest.raises(UserError, match=words):
        evaluate.main([places.get(own, own) for own in arguments])


def test_only_a_line_feed_ends_a_line(tmp_path: Path, capsys) -> None:
    """As for sacrebleu's command line; a carriage return does not."""
    hypotheses, references = write(tmp_path)
    for path in (hypotheses, references):
        content = Path(path).read_bytes().replace(b"\n", b" \r end\r\n", 1)
        Path(path).write_bytes(content)
    evaluate.main(["--hypotheses", hypotheses, "--references", references, "--json"])
    ours = json.loads(capsys.readouterr().out)["bleu"]
    command = [sys.executable, "-m", "sacrebleu", references, "-i", hypotheses, "-b", "-w", "6"]
    theirs = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert ours == pytest.approx(float(theirs), abs=1e-6)
