"""BLEU against perl, against its formula, and against sacrebleu's own command line."""

from __future__ import annotations

import gzip
import importlib.util
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pyarrow
import pytest
from sacrebleu.metrics.bleu import BLEU

from tlc_jax import evaluate
from tlc_jax.core.errors import UserError
from tlc_jax.tasks.bleu import compounds_split, plain_bleu, scores, tokenized

GOLDEN = json.loads((Path(__file__).parent.parent / "golden" / "bleu.json").read_text())
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
    found = scores(GOLDEN["hypotheses"], [GOLDEN["references"]], "fr")
    assert found["bleu_tokenized"] == pytest.approx(GOLDEN["bleu_tokenized"], abs=1e-9)
    assert found["bleu_compounds"] == pytest.approx(GOLDEN["bleu_compounds"], abs=1e-9)
    assert len({found[name] for name in ("bleu", "bleu_intl", "bleu_tokenized", "bleu_compounds")}) == 4
    assert plain_bleu(["a b c d"], [["a b c d"]]) == pytest.approx(100)
    assert plain_bleu(["a b c d"], [["e f g h"]]) == 0


def write(folder: Path) -> list[str]:
    paths = []
    for side in SIDES:
        paths.append(str(folder / side))
        Path(paths[-1]).write_text("".join(f"{line}\n" for line in GOLDEN[side]))
    return paths


def by_sacrebleu(hypotheses: str, references: list[str], *more: str) -> list[dict]:
    """BLEU and chrF as its own command line prints them."""
    command = [sys.executable, "-m", "sacrebleu", *references, "-i", hypotheses, "-m", "bleu", "chrf"]
    told = subprocess.run([*command, "-w", "6", *more], capture_output=True, check=True).stdout
    return json.loads(told)


def by_us(capsys: pytest.CaptureFixture, hypotheses: str, references: list[str], *more: str) -> dict:
    evaluate.main(["--hypotheses", hypotheses, "--references", *references, "--json", *more])
    return json.loads(capsys.readouterr().out)


def test_evaluating_files_equals_the_command_line_of_sacrebleu(tmp_path: Path, capsys) -> None:
    hypotheses, references = write(tmp_path)
    found, told = by_us(capsys, hypotheses, [references]), by_sacrebleu(hypotheses, [references])
    assert [found["bleu"], found["chrf"]] == [pytest.approx(own["score"], abs=1e-6) for own in told]
    assert found["signature"].startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp")
    assert "left_out" not in found


CHINESE = (
    ["我喜欢在公园里散步。", "他昨天买了一本书, 花了 12 元", "", "这是 GPU 的测试 v2.0"],
    ["我喜欢在公园散步。", "昨天他买了一本新书,花了12元。", "空", "这是GPU测试 v2.1!"],
    ["我爱在公园里走走。", "他昨天买了本书,用了 12 元", "没有", "这是一个 GPU 的测试"],
)


def test_chinese_and_several_references(tmp_path: Path, capsys) -> None:
    paths = [str(tmp_path / name) for name in ("hyp", "one", "two")]
    for path, lines in zip(paths, CHINESE, strict=True):
        Path(path).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    for references in ([paths[1]], paths[1:]):
        found = by_us(capsys, paths[0], references, "--language", "zh")
        told = by_sacrebleu(paths[0], references, "-l", "en-zh")
        assert [found["bleu"], found["chrf"]] == [pytest.approx(own["score"], abs=1e-6) for own in told]
        assert found["signature"].startswith(f"nrefs:{len(references)}|case:mixed|eff:no|tok:zh|")
        assert "bleu_tokenized" not in found
        assert "bleu_tokenized and bleu_compounds split at spaces" in found["left_out"]
    several = by_us(capsys, paths[0], paths[1:], "--language", "de")
    assert several["bleu"] == pytest.approx(by_sacrebleu(paths[0], paths[1:], "-l", "en-de")[0]["score"])
    assert several["bleu_tokenized"] > 0


@pytest.mark.parametrize(
    "language", ["tr", "ar", "uk", "da", "vi", "bg", "hr", "he", "hsb", "ceb", "tur_Latn", "Turkish", "pt-BR"]
)
def test_any_language_is_measured(language: str, tmp_path: Path, capsys) -> None:
    """As sacrebleu does, and with Moses' English abbreviations where Moses has no others."""
    hypotheses, references = write(tmp_path)
    found = by_us(capsys, hypotheses, [references], "--language", language)
    metric = BLEU(tokenize="13a").corpus_score(GOLDEN["hypotheses"], [GOLDEN["references"]])
    assert found["bleu"] == pytest.approx(metric.score, abs=1e-6)
    assert found["bleu_tokenized"] > 0
    assert "left_out" not in found


@pytest.mark.parametrize("language", ["zh_CN", "zh-TW", "zho_Hans", "Chinese"])
def test_regions_of_chinese_are_chinese(language: str) -> None:
    assert scores(CHINESE[0], CHINESE[1:], language)["bleu"] == scores(CHINESE[0], CHINESE[1:], "zh")["bleu"]
    assert "bleu_tokenized" not in scores(CHINESE[0], CHINESE[1:], language)


def test_measures_of_several_references_equal_their_formula() -> None:
    """An n-gram of any reference counts; as long should be the closest one."""
    assert plain_bleu(["a b c d"], [["a b c d x"], ["b c"]]) == pytest.approx(100 * math.exp(1 - 5 / 4))
    # 5 of 5 words, 3 of 4 pairs, 2 of 3 triples, 1 of 2 quadruples; one reference has as many words
    found = plain_bleu(["a b c d e"], [["a b c d x y z"], ["e e e e e"]])
    assert found == pytest.approx(100 * (5 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25)


@pytest.mark.parametrize("language", ["ja", "ko"])
def test_what_is_not_installed_is_named(language: str, tmp_path: Path, capsys) -> None:
    package = {"ja": "MeCab", "ko": "mecab_ko"}[language]
    hypotheses, references = write(tmp_path)
    if importlib.util.find_spec(package) is None:
        with pytest.raises(UserError, match=rf"BLEU of {language} .*pip install 'sacrebleu\[{language}\]'"):
            by_us(capsys, hypotheses, [references], "--language", language)
        return
    found = by_us(capsys, hypotheses, [references], "--language", language)
    [told, _] = by_sacrebleu(hypotheses, [references], "-l", f"en-{language}")
    assert found["bleu"] == pytest.approx(told["score"], abs=1e-6)
    assert f"tok:{language}-mecab" in found["signature"]


def test_archives_marks_and_blank_lines_change_no_score(tmp_path: Path, capsys) -> None:
    hypotheses, references = write(tmp_path)
    for path in (hypotheses, references):
        with Path(path).open("ab") as file:
            file.write(b"\n \t\n")
    expected = by_us(capsys, hypotheses, [references])
    assert expected["bleu"] == pytest.approx(by_sacrebleu(hypotheses, [references])[0]["score"], abs=1e-6)
    content = Path(hypotheses).read_bytes()
    (tmp_path / "hyp.gz").write_bytes(gzip.compress(content))
    (tmp_path / "ref.zst").write_bytes(
        pyarrow.Codec("zstd").compress(Path(references).read_bytes(), asbytes=True)
    )
    (tmp_path / "mark").write_bytes(b"\xef\xbb\xbf" + content)
    (tmp_path / "windows").write_bytes(content.replace(b"\n", b"\r\n"))
    for name in ("hyp.gz", "mark", "windows"):
        assert by_us(capsys, str(tmp_path / name), [str(tmp_path / "ref.zst")]) == expected


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--hypotheses", "HYP"], "give either"),
        (["x", "--hypotheses", "HYP", "--references", "REF"], "give either"),
        (["--hypotheses", "HYP", "--references", "none"], "--references none cannot be read"),
        (["--hypotheses", "FOLDER", "--references", "REF"], "--hypotheses .*folder cannot be read"),
        (["--hypotheses", "FIFO", "--references", "REF"], "--hypotheses .*fifo .*not a regular file"),
        (
            ["--hypotheses", "HYP", "--references", "REF", "LATIN"],
            "--references .*latin cannot be read as text: line 1 is not UTF-8",
        ),
        (["--hypotheses", "HYP", "--references", "REF", "SHORT"], "has 6 lines and .*short has 1"),
        (["--hypotheses", "EMPTY", "--references", "EMPTY"], "has 0 lines"),
        (["--hypotheses", "CUT", "--references", "REF"], r"--hypotheses .*cut\.gz cannot be read"),
        (["--references", "REF"], "give either"),
        (["--hypotheses", "SHORT", "--references", "REF"], "has 1 lines and .* has 6"),
        (["--hypotheses", "HYP", "--references", "REF", "--language", "zz"], "--language zz is no language"),
        (["--hypotheses", "HYP", "--references", "REF", "--language", "klingonian"], "is no language"),
        (["--hypotheses", "HYP", "--references", "REF", "--language", ""], "is no language"),
        (["--hypotheses", "HYP", "--references", "REF", "--task", "mlm"], "go with RUN"),
        (["--hypotheses", "HYP", "--references", "REF", "--data.dir", "x"], "go with RUN"),
    ],
)
def test_wrong_files_are_refused(arguments: list[str], words: str, tmp_path: Path) -> None:
    hypotheses, references = write(tmp_path)
    (tmp_path / "short").write_text("one line\n")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "latin").write_bytes("é\n".encode("latin-1") * 6)
    (tmp_path / "empty").touch()
    (tmp_path / "cut.gz").write_bytes(gzip.compress(b"a line of text\n" * 6)[:-9])
    names = ("short", "folder", "fifo", "latin", "empty")
    places = {"HYP": hypotheses, "REF": references, "CUT": str(tmp_path / "cut.gz")}
    places |= {name.upper(): str(tmp_path / name) for name in names}
    with pytest.raises(UserError, match=words):
        evaluate.main([places.get(own, own) for own in arguments])


def test_only_a_line_feed_ends_a_line(tmp_path: Path, capsys) -> None:
    """As for sacrebleu's command line; a carriage return does not."""
    hypotheses, references = write(tmp_path)
    for path in (hypotheses, references):
        content = Path(path).read_bytes().replace(b"\n", b" \r end\r\n", 1)
        Path(path).write_bytes(content)
    ours, [theirs, _] = by_us(capsys, hypotheses, [references]), by_sacrebleu(hypotheses, [references])
    assert ours["bleu"] == pytest.approx(theirs["score"], abs=1e-6)
