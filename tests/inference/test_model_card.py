"""Model cards: what huggingface_hub and a Markdown parser read in them, against the files that are there."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import importlib
import io
import json
import re
import shlex
import shutil
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import safetensors.numpy
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt
from markdown_it.token import Token
from rich.console import Console
from scipy import stats

from tests.golden import make_d21cde9 as old
from tlc_jax import compress, evaluate, export, inspect
from tlc_jax.artifacts import model_card
from tlc_jax.artifacts.model_record import ModelRecord
from tlc_jax.config import Config
from tlc_jax.core.printable import printable
from tlc_jax.core.schema import checked
from tlc_jax.data.provenance import sources_of
from tlc_jax.runs.primary_metric import interval
from tlc_jax.runs.record_model import record_model
from tlc_jax.storage.run_directory import RunDir
from tlc_jax.storage.sealed import seal
from tlc_jax.training.metrics import read_metrics

SHA = hashlib.sha256(b"").hexdigest()
HOSTILE = [
    "a\n---\nlicense: mit\n---\n<b>x</b>",
    "<script>alert(1)</script>",
    "![x](https://example.org/x.png)",
    "[x](javascript:alert(1))",
    "a | b | c",
    "`a` ``b``",
    "*a* __b__ ~~c~~ \\*d\\*",
    "https://example.org www.example.org",
    "<https://example.org>",
    "&lt;b&gt; &copy;",
    "# a",
    "\u202egnp.exe\x1b[2J",
    "no",
    "'{a: [b]} #c",
    "{{ x }} %TAG !!python/object/apply:os.system",
]


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **options: Any) -> Any:
        raise AssertionError("a card is read without a network")

    monkeypatch.setattr(huggingface_hub.utils, "get_session", refuse)


def tokens(text: str) -> Iterator[Token]:
    """All tokens of Markdown with tables and bare addresses, as GitHub and the hub read it."""
    parser = MarkdownIt("commonmark", {"linkify": False}).enable("table").enable("strikethrough")
    for token in parser.parse(text):
        yield token
        yield from token.children or ()


def tables(text: str) -> list[list[list[str]]]:
    """The cells of each table as they are shown."""
    found: list[list[list[str]]] = []
    in_cell = False
    for token in tokens(text):
        if token.type == "table_open":
            found.append([])
        elif token.type == "tr_open":
            found[-1].append([])
        elif token.type in ("td_open", "th_open", "td_close", "th_close"):
            in_cell = token.type.endswith("_open")
            if in_cell:
                found[-1][-1].append("")
        elif in_cell and token.type in ("text", "text_special", "code_inline"):
            found[-1][-1][-1] += token.content
    return found


def fact(card: ModelCard, name: str) -> str:
    rows = dict(row for table in tables(card.text) for row in table if len(row) == 2)
    return rows[name]


# --- text of strangers ---------------------------------------------------------------------------------


def forged(name: str) -> model_card.ModelCard:
    record = {
        "updates": 3,
        "began_with": name,
        "devices": [name],
        "packages": {"jax": name},
        "data": {
            "identity": SHA,
            "sources": [name],
            "source_count": 1,
            "prepared": [
                {"name": name, "licence": name, "source": f"https://huggingface.co/datasets/{name}"}
            ],
            "files": {name: {"bytes": 1234, "sha256": SHA}},
        },
        "metric": {"name": "accuracy", "set": name, "value": 0.5, "examples": 10, "no_interval": name},
    }
    return model_card.ModelCard(
        name="m",
        title=name,
        library="tlc-jax",
        made_by=name,
        facts={"labels": name},
        use="",
        hub_task="fill-mask",
        languages=["no"],
        record=checked(record, ModelRecord),
    )


@pytest.mark.parametrize("name", HOSTILE)
def test_text_of_strangers_stays_text(name: str) -> None:
    text = forged(name).text()
    card, shown = ModelCard(text), printable(name)
    assert set(card.data.to_dict()) == {
        *("language", "library_name", "pipeline_tag", "tags", "metrics", "model-index")
    }
    assert card.data.language == ["no"]
    (result,) = card.data.eval_results or ()
    assert (result.dataset_type, result.dataset_name, result.dataset_split) == (shown, shown, shown)
    assert (result.task_type, result.metric_type, result.metric_value) == ("fill-mask", "accuracy", 0.5)
    kinds = {token.type for token in tokens(card.text)}
    assert not kinds & {"html_block", "html_inline", "image", "em_open", "strong_open", "s_open"}
    links = [token.attrs["href"] for token in tokens(card.text) if token.type == "link_open"]
    assert links == ["https://arxiv.org/abs/2002.11794"]
    assert not re.search(r"\w://|www\.", card.text.replace(model_card.PAPER, "")), "no bare address"
    assert fact(card, "labels") == fact(card, "devices") == fact(card, "began with") == shown
    assert [shown, "1,234", SHA] in tables(card.text)[-1]
    assert "\x1b" not in text
    assert "\u202e" not in text


def test_data_sets_of_the_hub_have_their_names() -> None:
    record: Any = forged("x").record
    sources = {
        "https://huggingface.co/datasets/wikimedia/wikipedia": ["wikimedia/wikipedia"],
        "hf://datasets/nyu-mll/glue/sst2/*.parquet, hf://datasets/a/b@main/c": ["nyu-mll/glue", "a/b"],
        "https://dl.fbaipublicfiles.com/glue/data/SST-2.zip": None,
        "https://huggingface.co/datasets/../../x": None,
    }
    for source, expected in sources.items():
        record["data"]["prepared"] = [{"name": "one", "licence": "mit", "source": source}]
        card = ModelCard(dataclasses.replace(forged("x"), record=record).text())
        assert card.data.datasets == expected, source
        (result,) = card.data.eval_results or ()
        assert result.dataset_type == (expected or ["one"])[0]
        assert result.dataset_name == "one"
    assert card.data.license is None, "that of the data is not that of the weights"


def test_what_is_unknown_is_left_out() -> None:
    bare = dataclasses.replace(forged("x"), record={"updates": 3}, hub_task=None, languages=(), library=None)
    card = ModelCard(bare.text())
    assert card.data.to_dict() == {"tags": ["tlc-jax"]}
    assert "was not evaluated" in card.text
    assert "None" not in card.text
    assert [row[0] for row in tables(card.text)[1]] == ["", "updates"]


# --- intervals -----------------------------------------------------------------------------------------


def test_the_interval_of_a_share_is_wilsons() -> None:
    for right, count in ((0, 20), (7, 20), (20, 20), (870, 1000)):
        scores = np.arange(count) < right
        p, z = right / count, stats.norm.ppf(0.975)
        middle = (p + z**2 / (2 * count)) / (1 + z**2 / count)
        half = z / (1 + z**2 / count) * np.sqrt(p * (1 - p) / count + z**2 / (4 * count**2))
        np.testing.assert_allclose(
            interval(scores.astype(float), np.ones(count)), (middle - half, middle + half)
        )


def test_the_interval_of_a_ratio_is_that_of_a_bootstrap() -> None:
    rng = np.random.default_rng(0)
    weights = rng.integers(5, 60, 400).astype(float)
    scores = weights * rng.gamma(4.0, 0.5, 400)
    drawn = rng.integers(0, 400, (4000, 400))
    ratios = scores[drawn].sum(1) / weights[drawn].sum(1)
    low, high = interval(scores, weights)
    expected = np.quantile(ratios, (0.025, 0.975))
    np.testing.assert_allclose((low, high), expected, atol=0.06 * (expected[1] - expected[0]))


def test_the_interval_covers_as_often_as_it_says() -> None:
    rng, truth, covered = np.random.default_rng(1), 2.0, 0
    for _ in range(1000):
        weights = rng.integers(5, 60, 50).astype(float)
        low, high = interval(weights * rng.gamma(4.0, truth / 4, 50), weights)
        covered += low <= truth <= high
    assert 0.92 <= covered / 1000 <= 0.97


# --- what data were made from --------------------------------------------------------------------------


def test_sources_of_every_kind_of_data_have_names() -> None:
    files = {"kind": "files", "files": ["a.txt", "b/c.txt"]}
    versions = {"kind": "docs", "versions": {"numpy": "2.1"}}
    tfds = {"kind": "tfds", "name": "glue/sst2", "version": "1.0.0"}
    assert sources_of({"origin": files}) == ["a.txt", "b/c.txt"]
    assert sources_of({"origin": {"parts": [versions, tfds]}}) == [
        "documentation of numpy 2.1",
        "glue/sst2 1.0.0",
    ]
    assert sources_of({"origin": {"kind": "docs/package"}}) == ["docs/package"]
    assert sources_of({"sources": [{"name": "one.tsv", "share": 2.0}]}) == ["one.tsv"]


ENVIRONMENTS = (
    "{",
    '{"starts": 5}',
    '{"starts": [{"devices": 5}]}',
    '{"starts": [{"packages": 5}]}',
    '{"starts": [{"devices": [], "packages": {"jax": 5}}]}',
    json.dumps({"starts": [{"devices": ["x" * 2000]}]}),
)


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_what_is_damaged_is_named_and_left_out(environment: str, tmp_path: Path) -> None:
    (tmp_path / "environment.json").write_text(environment)
    line = {"step": 4, "training_seconds": 1.5, "total_seconds": 2.0, "tokens": 640, "flops": 1e9}
    (tmp_path / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    (tmp_path / "data").mkdir()
    seal(tmp_path / "data", {"identity": "no digest"})
    model: Any = types.SimpleNamespace(rundir=RunDir(tmp_path), step=4, config=Config(seed=3))
    console = Console(file=io.StringIO(), width=1000)
    record = record_model(model, console)
    amounts = {"training_seconds": 1.5, "tokens": 640.0, "flops": 1e9}
    assert record == {"updates": 4, "seed": 3, **amounts}
    assert console.file.getvalue().count("the model card leaves out what cannot be read") == 2


# --- cards that commands write -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of three kinds of tasks."""
    return old.unpacked(tmp_path_factory.mktemp("cards") / "work")


@pytest.fixture(scope="module")
def folders(runs: Path) -> Path:
    """Of each run: its export, its artifact of 4 bits, and that one's export."""
    with contextlib.chdir(runs):
        for kind in ("encoder", "classifier", "translation"):
            small = ["--bits", "4", "--sparsity", "0.3", "--out", f"cards/{kind}-small"]
            compress.main([kind, *small])
            for source, out in ((kind, kind), (f"cards/{kind}-small", f"{kind}-again")):
                export.main([source, "--format", "huggingface", "--out", f"cards/{out}"])
    return runs / "cards"


def tlc(words: list[str]) -> None:
    """A command of a card, `python -m tlc_jax.NAME ...`."""
    assert words[:2] == ["python", "-m"]
    importlib.import_module(words[2]).main(words[3:])


def read(folder: Path) -> ModelCard:
    return ModelCard((folder / "README.md").read_text(encoding="utf-8"))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["encoder", "classifier", "translation"])
def test_a_card_says_what_the_files_say(
    kind: str, runs: Path, folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = {"encoder": "fill-mask", "classifier": "text-classification", "translation": "translation"}[kind]
    last = read_metrics(runs / kind / "metrics.jsonl")[-1]
    for folder in (kind, f"{kind}-small", f"{kind}-again"):
        card = read(folders / folder)
        assert card.data.pipeline_tag == task
        assert card.data.library_name == ("tlc-jax" if folder.endswith("small") else "transformers")
        assert card.data.license is None
        assert fact(card, "updates") == f"{last['step']:,}"
        (files,) = (table for table in tables(card.text) if table[0][:2] == ["file", "bytes"])
        for name, size, digest in files[1:]:
            content = (runs / kind / "data" / name).read_bytes()
            assert (int(size.replace(",", "")), digest) == (len(content), hashlib.sha256(content).hexdigest())
        assert len(files) > 2
    capsys.readouterr()
    with contextlib.chdir(runs):
        evaluate.main([kind, "--json"])
    evaluated = json.loads(capsys.readouterr().out)
    (result,) = read(folders / kind).data.eval_results or ()
    value = evaluated[f"eval/{result.dataset_split}/{result.metric_type}"]
    assert result.metric_value == pytest.approx(value, rel=1e-5)
    small, again = (read(folders / f"{kind}-{which}").data for which in ("small", "again"))
    assert small.eval_results == again.eval_results
    assert {"quantized", "sparse"} <= set(small.tags or ())


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["encoder", "classifier", "translation"])
def test_sizes_are_those_of_the_files(kind: str, folders: Path) -> None:
    small = folders / f"{kind}-small"
    manifest = json.loads((small / "manifest.json").read_text())
    card = read(small)
    assert "README.md" not in manifest["files"]
    assert fact(card, "file of weights") == f"{(small / 'model.safetensors').stat().st_size:,} bytes"
    assert fact(card, "paper (non-zeros x bits / 8)") == f"{manifest['size']['paper_bytes']:,.0f} bytes"
    assert fact(card, "bits of matrices") == "4"
    stored = (folders / kind / "model.safetensors").stat().st_size
    assert f"beside this card has {stored:,} bytes" in read(folders / kind).text


def code(card: ModelCard, language: str) -> list[str]:
    return [token.content for token in tokens(card.text) if token.type == "fence" and token.info == language]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["encoder", "classifier", "translation"])
def test_commands_and_code_of_a_card_run(
    kind: str,
    runs: Path,
    folders: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = runs / {"encoder": "text", "classifier": "tables", "translation": "pairs"}[kind]
    (tmp_path / "lines").write_text("one text\nanother text\n")
    given = {"DATA": str(data), "TEXTS": str(tmp_path / "lines"), "LINES": str(tmp_path / "lines")}
    monkeypatch.chdir(folders / f"{kind}-small")
    card = read(Path())
    (commands,) = code(card, "sh")
    for command in commands.splitlines():
        words = [given.get(word, word) for word in shlex.split(command)]
        if "<" in words:
            *words, _, lines = words
            with Path(lines).open() as file, monkeypatch.context() as patch:
                patch.setattr(sys, "stdin", file)
                tlc(words)
        else:
            tlc(words)
    (block,) = code(card, "python")
    exec(compile(block.replace('"DATA"', repr(str(data))), "README.md", "exec"), {})
    assert capsys.readouterr().out
    monkeypatch.chdir(folders / kind)
    *_, numpy_code = code(read(Path()), "python")
    exec(compile(numpy_code, "README.md", "exec"), {})
    names = safetensors.numpy.load_file("model.safetensors").keys()
    assert {line.split()[0] for line in capsys.readouterr().out.splitlines()} == set(names)


@pytest.mark.interop
@pytest.mark.parametrize("kind", ["encoder", "classifier", "translation"])
def test_code_for_transformers_runs(
    kind: str,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("torch", reason="needs the extra `interop`")
    pytest.importorskip("transformers", reason="needs the extra `interop`")
    folders = request.getfixturevalue("folders")
    codes = folders / f"{kind}-codes"
    if kind != "translation":  # which compressed-tensors cannot hold
        pytest.importorskip("compressed_tensors", reason="needs the extra `interop`")
        export.main([str(folders / f"{kind}-small"), "--format", "compressed-tensors", "--out", str(codes)])
    for folder in filter(Path.exists, (folders / kind, codes)):
        monkeypatch.chdir(folder)
        capsys.readouterr()
        exec(compile(code(read(Path()), "python")[0], "README.md", "exec"), {})
        assert capsys.readouterr().out


@pytest.mark.slow
def test_an_edited_card_damages_nothing(folders: Path, tmp_path: Path) -> None:
    artifact = shutil.copytree(folders / "encoder-small", tmp_path / "artifact")
    card = read(artifact)
    card.data.license = "apache-2.0"
    card.save(artifact / "README.md")
    inspect.main([str(artifact)])
    (artifact / "README.md").unlink()
    inspect.main([str(artifact)])


def checkpoint(folder: Path) -> Path:
    folder.mkdir()
    weights = np.random.default_rng(0).normal(size=(16, 32)).astype(np.float32)
    safetensors.numpy.save_file({"a|b.weight": weights, "b.bias": weights[0]}, folder / "model.safetensors")
    return folder


def test_a_folder_of_another_program_has_a_card(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source, small = checkpoint(tmp_path / "model"), tmp_path / "small"
    compress.main(["--hf", str(source), "--bits", "6", "--out", str(small)])
    card = read(small)
    content = (source / "model.safetensors").read_bytes()
    row = ["model.safetensors", f"{len(content):,}", hashlib.sha256(content).hexdigest()]
    assert row in tables(card.text)[-1]
    assert (card.data.library_name, card.data.pipeline_tag, card.data.eval_results) == ("tlc-jax", None, None)
    assert fact(card, "bits of matrices") == "6"
    monkeypatch.chdir(small)
    capsys.readouterr()
    for command in code(card, "sh")[0].splitlines():
        tlc(shlex.split(command))
    exec(compile(code(card, "python")[0], "README.md", "exec"), {})
    assert "a|b.weight float32 (16, 32)" in capsys.readouterr().out
    again = read(tmp_path / "exported")
    assert (again.data.library_name, again.data.tags) == (None, ["tlc-jax", "quantized"])
    monkeypatch.chdir(tmp_path / "exported")
    exec(compile(code(again, "python")[0], "README.md", "exec"), {})
    assert "b.bias float32 (32,)" in capsys.readouterr().out


@pytest.mark.slow
def test_what_cannot_be_read_is_no_reason_to_refuse_a_model(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = shutil.copytree(runs / "encoder", tmp_path / "run")
    (run / "environment.json").write_text("{")
    shutil.rmtree(run / "data")
    export.main([str(run), "--format", "huggingface", "--out", str(tmp_path / "out")])
    printed = capsys.readouterr().out
    assert printed.count("note: the model card") == 3, "devices, data, metric"
    card = read(tmp_path / "out")
    assert card.data.eval_results is None
    assert "devices" not in dict(row for table in tables(card.text) for row in table)
    assert "was not evaluated" in card.text


@pytest.mark.slow
def test_an_artifact_of_an_older_version_is_exported_with_a_card(runs: Path, tmp_path: Path) -> None:
    (artifact,) = (path for path in runs.rglob("encoder-rows") if path.is_dir())
    export.main([str(artifact), "--format", "huggingface", "--out", str(tmp_path / "out")])
    card = read(tmp_path / "out")
    assert fact(card, "parameters")
    assert "training time" not in card.text
