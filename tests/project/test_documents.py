"""What the documents say is true: commands run, links lead somewhere, each fault has its test.

The commands of README.md and of docs/usage/ run in a folder where the names that they use stand for something
small; a command that is not run says why in a comment above it. Those of docs/results/ and in configs/ are of
long runs: their options are checked."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import re
import shlex
import shutil
import sys
import tarfile
import tomllib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow
import pytest
import safetensors.numpy
import yaml

from tests.builders import documents, sentence_pairs
from tests.project.documents import DOCUMENTS, ROOT, Command, anchors, blocks, commands, links
from tests.project.test_layering import LEVELS, ONLY_HERE
from tlc_jax.artifacts.artifact import read_artifact
from tlc_jax.artifacts.encoding import encode
from tlc_jax.compression.quantize import quantize_tensor
from tlc_jax.config import CompressConfig, StudyConfig
from tlc_jax.config.quantization import QuantSpec
from tlc_jax.core import cli, config_document
from tlc_jax.core.leaf import Leaf

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
FAULTS = (ROOT / "docs" / "faults.md").read_text(encoding="utf-8")
# `F` is `tests/runs/test_faults.py`; the other files of a list have no "is"
LETTERS = dict(re.findall(r"`([A-Z])`(?: is)?\s+`(tests/\w+/\w+\.py)`", FAULTS))
ROWS = [line.split("|")[1:4] for line in FAULTS.splitlines() if line.startswith("| ") and "---" not in line]
ROWS = [row for row in ROWS if row[2].strip() != "test"]
CONFIG_DOCUMENTS = sorted((ROOT / "configs").glob("*.py"))
COMMANDS = [command for document in (*DOCUMENTS, *CONFIG_DOCUMENTS) for command in commands(document)]
OURS = [command for command in COMMANDS if " tlc_jax." in command.text or command.text.startswith("tlc ")]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs" / "usage").glob("*.md"))]


class Parsed(Exception):
    """The options of a command were understood."""


def arguments_of(command: Command) -> tuple[str, list[str], dict[str, str]]:
    """The module of a command, its arguments, and the files that < and > name."""
    words = shlex.split(command.text, comments=True)
    if words[0] == "tlc":
        module, words = words[1], words[2:]
    else:
        at = words.index("-m")
        module, words = words[at + 1].removeprefix("tlc_jax."), words[at + 2 :]
    files = {words[i]: words[i + 1] for i in range(len(words) - 1) if words[i] in ("<", ">")}
    return module, [word for word in words if word not in {*files, *files.values()}], files


def main_of(command: Command):
    return importlib.import_module(f"tlc_jax.{arguments_of(command)[0]}").main


@pytest.mark.parametrize("command", OURS, ids=str)
def test_options_exist(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def only_parse(original):
        def parse(*args, **options):
            original(*args, **options)
            raise Parsed

        return parse

    for name in ("parse", "parse_plain"):
        monkeypatch.setattr(cli, name, only_parse(getattr(cli, name)))
    _, arguments, _ = arguments_of(command)
    arguments = ["1.0" if word == "X" else word for word in arguments]  # a number that the reader chooses
    with contextlib.redirect_stdout(io.StringIO()), pytest.raises((Parsed, SystemExit)) as ended:
        main_of(command)(arguments)
    assert getattr(ended.value, "code", 0) == 0, command  # --help ends with SystemExit


def test_the_other_commands_name_what_is_there() -> None:
    extras = PROJECT["project"]["optional-dependencies"].keys()
    for command in COMMANDS:
        for script in re.findall(r"python (benchmarks/\S+)", command.text):
            assert (ROOT / script).is_file(), command
        for named in re.findall(r"'?\.\[([\w,]+)\]", command.text):
            assert set(named.split(",")) <= extras, command


MODEL = "ModelConfig(num_layers=1, hidden_size=16, head_size=8, vocab_size=300, max_positions=32)"
RUN = "budget=BudgetConfig(steps={steps}), batch_size=16, log_every=4"
CONFIGS = {
    "pretrain": f'model={MODEL}, data=DataConfig(dir="my_text/", {{data}}), {RUN}',
    "finetune": f'task=ClassificationConfig(), data=DataConfig(dir="tfds/", {{data}}), {RUN}',
    "translate": "model=EncoderDecoderConfig(num_layers=1, hidden_size=16, head_size=8, vocab_size=300), "
    "task=TranslationConfig(), data=PairsConfig({data}, max_shapes=1), budget=BudgetConfig(steps={steps}), "
    "checkpoint=CheckpointConfig(every_steps=2, keep=5), batch_size=512, log_every=4",
}
PAIRS = {
    "multi30k.train.tsv.gz": 300,
    "tatoeba.tsv.gz": 300,
    "europarl.tsv.zst": 300,
    "multi30k.val.tsv.gz": 20,
    "multi30k.test2016.tsv.gz": 20,
}
STUDY = (
    'train=Config({train}, schedule=ScheduleConfig(follows="training_seconds")), '
    'finetune=Config({finetune}), sizes=("1x16",), bits=(32, 4), sparsities=(0.0,)'
)


def write_configs(folder: Path, cache: Path) -> None:
    """Small documents under the names of those in configs/."""
    folder.mkdir()
    data = f'sequence_length=32, held_out=0.1, cache_dir="{cache}"'
    small = {kind: fields.format(data=data, steps=12) for kind, fields in CONFIGS.items()}
    for document in (ROOT / "configs").glob("*.py"):
        kind = next((kind for kind in CONFIGS if document.stem.startswith(kind)), "pretrain")
        made, config = f"Config({small[kind]})", config_document.load_config(str(document), object)
        if isinstance(config, StudyConfig):
            train = small["pretrain"].replace("steps=12", "training_seconds=0.2")
            made = f"StudyConfig({STUDY.format(train=train, finetune=small['finetune'])})"
        if isinstance(config, CompressConfig) and config.recovery is None:
            shutil.copy(document, folder)
            continue
        if isinstance(config, CompressConfig):
            recovery = "RecoveryConfig(levels=(0.3, 0.45), max_epochs=0.1)"
            made = f'CompressConfig(bits=6, sparsity=0.45, granularity="group:8", recovery={recovery})'
        (folder / document.name).write_text(
            "from tlc_jax.config import *\nfrom tlc_jax.config.compression import *\n"
            f"from tlc_jax.config.study_options import *\n\ndef get_config():\n    return {made}\n"
        )


def write_data(folder: Path) -> None:
    """Text, tables, pairs and somebody's checkpoint under the names that the documents use."""
    (folder / "my_text").mkdir()
    (folder / "my_text" / "one.txt").write_text("\n\n".join(documents(120)))
    texts = [line for text in documents(60, seed=1) for line in text.split("\n")[1:]]
    table = ["text\tlabel", *(f"{text}\t{('no', 'yes')['model' in text]}" for text in texts)]
    for name in ("tfds", "my_tables"):
        (folder / name).mkdir()
        (folder / name / "train.tsv").write_text("\n".join(table))
        (folder / name / "validation.tsv").write_text("\n".join(table[:50]))
    (folder / "new.txt").write_text("\n".join(texts[:20]))
    (folder / "new.tsv").write_text("\n".join(["text", *texts[:20]]))
    (folder / "pairs").mkdir()
    for seed, (name, size) in enumerate(PAIRS.items()):
        table = "".join(f"{source}\t{target}\n" for source, target in sentence_pairs(size, seed)).encode()
        packed = pyarrow.Codec("zstd" if name.endswith(".zst") else "gzip").compress(table, asbytes=True)
        (folder / "pairs" / name).write_bytes(packed)
    pairs = sentence_pairs(3, 9)
    (folder / "english.txt").write_text("".join(f"{source}\n" for source, _ in pairs))
    for name in ("one", "other", "french"):
        (folder / f"{name}.txt").write_text("".join(f"{target}\n" for _, target in pairs))
    (folder / "all-MiniLM-L6-v2").mkdir()
    safetensors.numpy.save_file(
        {"layer.weight": np.random.default_rng(0).normal(size=(64, 128)).astype("f4")},
        folder / "all-MiniLM-L6-v2" / "model.safetensors",
    )
    (folder / "all-MiniLM-L6-v2" / "config.json").write_text("{}")


class SmallWorld:
    """A folder in which the commands of the documents take moments; each is run once."""

    def __init__(self, folder: Path):
        self.folder, self._done = folder, set[str]()
        write_configs(folder / "configs", folder / "cache")
        write_data(folder)
        first = {c.text: c for c in OURS if c.block.document in PAGES and not c.block.reason}
        for workdir in ("runs/wiki", "runs/sst2", "runs/enfr"):  # other commands use them
            self.run(
                next(c for c in first.values() if "--config" in c.text and f"workdir {workdir} " in c.text)
            )
        for name, copy in (("wiki", "mine"), ("sst2", "small"), ("sst2", "large")):
            shutil.copytree(folder / "runs" / name, folder / "runs" / copy)

    def run(self, command: Command) -> None:
        if command.text in self._done:
            return
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(self.folder)
            patch.setattr(config_document, "config_folder", lambda: self.folder / "configs")
            run(command)
        self._done.add(command.text)


@pytest.fixture(scope="module")
def small_world(tmp_path_factory: pytest.TempPathFactory) -> SmallWorld:
    return SmallWorld(tmp_path_factory.mktemp("world"))


def run(command: Command) -> None:
    """Runs a command in this process, in the current folder."""
    _, arguments, files = arguments_of(command)
    with contextlib.ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        for sign, name, mode in (("<", "stdin", "r"), (">", "stdout", "w")):
            if sign in files:
                patch.setattr(sys, name, stack.enter_context(Path(files[sign]).open(mode)))
        with contextlib.suppress(SystemExit) if "--help-all" in arguments else contextlib.nullcontext():
            main_of(command)(arguments)


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_run(page: Path, small_world: SmallWorld) -> None:
    for command in commands(page):
        if command in OURS and not command.block.reason:
            small_world.run(command)


ARTIFACTS = ["encoder-rows", "encoder-heads", "classifier-rounds", "translation-groups", "encoder-sparse"]


@pytest.mark.parametrize("name", ARTIFACTS)
def test_an_artifact_is_read_in_plain_numpy(name: str, tmp_path: Path) -> None:
    """Masks, rows, groups, and ranges that begin where they begin, as they were written and with the coding
    brotli; the last bit of a product may differ."""
    with tarfile.open(ROOT / "tests" / "golden" / "d21cde9" / "artifacts.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    artifact, coded = tmp_path / "artifacts" / name, tmp_path / "coded"
    expected = read_artifact(artifact).tensors
    recode(expected, coded)
    for folder in (artifact, coded):
        weights = load_artifact()(folder)
        assert weights.keys() == expected.keys()
        for tensor, leaf in expected.items():
            dense = np.asarray(leaf.dense())
            last_bit = 2e-7 * np.abs(dense).max(initial=0)
            np.testing.assert_allclose(weights[tensor], dense, rtol=0, atol=last_bit, err_msg=tensor)


def test_ranges_of_16_bits_are_read_in_plain_numpy(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(16, 24)).astype(np.float32)
    specs = {
        "symmetric": QuantSpec(4, "group:8", zero="symmetric", range_dtype="bfloat16"),
        "float": QuantSpec(3, "row", zero="float", range_dtype="bfloat16"),
    }
    leaves = {name: quantize_tensor(name, x, spec) for name, spec in specs.items()}
    recode(leaves, tmp_path / "coded")
    weights = load_artifact()(tmp_path / "coded")
    for name, leaf in leaves.items():
        np.testing.assert_allclose(weights[name], leaf.dense(), rtol=0, atol=1e-6)


def load_artifact() -> Callable[[Path], dict[str, np.ndarray]]:
    """The function of docs/usage/export.md."""
    [block] = [
        block for block in blocks(ROOT / "docs" / "usage" / "export.md") if "numpy as np" in block.text
    ]
    functions: dict = {}
    exec(compile(block.text, "export.md", "exec"), functions)
    return functions["load_artifact"]


def recode(tensors: dict[str, Leaf], folder: Path) -> None:
    """What the code in export.md reads of an artifact with these tensors and the coding brotli."""
    entries, parts = {}, {}
    for tensor, leaf in tensors.items():
        entries[tensor], arrays = encode(leaf, "brotli")
        parts |= {f"{tensor}.{part}": x for part, x in arrays.items()}
    folder.mkdir()
    safetensors.numpy.save_file(parts, folder / "model.safetensors")
    (folder / "manifest.json").write_text(json.dumps({"tensors": entries}), encoding="utf-8")


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


def test_the_first_two_commands_of_the_readme() -> None:
    readme = ROOT / "README.md"
    study, tests = [c.text for c in commands(readme) if c.text.startswith("python -m ")][:2]
    assert study == "python -m tlc_jax.study --config quickstart_study --workdir runs/study"
    assert tests == "python -m pytest -n 2"
    assert f"\n    {tests}\n" in (ROOT / "README.md").read_text(encoding="utf-8"), (
        ".ci/run looks for it there"
    )


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    for link in links(document):
        if "://" in link:
            continue
        file, _, anchor = link.partition("#")
        target = (document.parent / file).resolve() if file else document
        assert target.exists(), f"{link}: there is no {file}"
        assert not anchor or anchor in anchors(target), f"{link}: {file} has no heading {anchor}"


# files that commands write, and folders that the reader has
MADE = set(
    "config.json environment.json tokenizer.json special_tokens_map.json tokenizer_config.json manifest.json "
    "metrics.jsonl results.jsonl study.json plan.json train_config.py "
    "data.json items/ study.png page.png train.jsonl vocab.json gpt2/vocab.json data/ checkpoints/ "
    "checkpoints/damaged/ tensorboard/ track.py my_text/ my_tables/ pairs/ tfds/ wikipedia/".split()
)
NAMED = [document for document in DOCUMENTS if document.parent.name != "results"]


@pytest.mark.parametrize("document", NAMED, ids=lambda path: str(path.relative_to(ROOT)))
def test_named_files_are_there(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    names = set(re.findall(r"`((?:\w+/)*\w+(?:/|\.(?:py|md|jsonl?|png)))`", text))
    homes = (ROOT, ROOT / "tlc_jax", document.parent)
    missing = [name for name in names - MADE if not any((home / name).exists() for home in homes)]
    assert not missing
    configs = set(re.findall(r"--config (\w+)\b(?![./])", text)) - {"NAME", "RUN", "with"}
    assert configs <= {path.stem for path in (ROOT / "configs").glob("*.py")}


def test_the_citation_is_valid() -> None:
    """The keys that the schema of CFF 1.2.0 demands, and its types of works."""
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    paper = citation["preferred-citation"]
    assert citation["cff-version"] == "1.2.0"
    assert citation["type"] == "software"
    assert paper["type"] == "conference-paper"
    assert paper["collection-title"]
    for work in (citation, paper):
        assert work["title"]
        assert all(author.get("name") or author["family-names"] for author in work["authors"])
    assert citation["message"]
    assert str(citation["version"]) == PROJECT["project"]["version"]
    assert citation["license"] == PROJECT["project"]["license"]


def test_the_changelog_has_this_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    versions = re.findall(r"^## \[(.+?)\](?: - (\d{4}-\d\d-\d\d))?$", text, flags=re.MULTILINE)
    assert versions[0] == ("Unreleased", "") or versions[0][0] == PROJECT["project"]["version"]
    assert (PROJECT["project"]["version"]) in dict(versions)
    assert set(re.findall(r"^### (\w+)$", text, flags=re.MULTILINE)) <= {
        "Added", "Changed", "Deprecated", "Removed", "Fixed", "Security",
    }  # fmt: skip


def test_moved_modules_are_where_the_changelog_says() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (.+→.+) \|$", text, flags=re.MULTILINE)
    moved = {
        (package, old): new for package, row in rows for old, new in re.findall(r"`(\w+)` → `(\S+)`", row)
    }
    assert moved["core", "quantspec"] == "config.quantization"
    for (package, old), new in moved.items():
        assert not (ROOT / "tlc_jax" / package / f"{old}.py").exists()
        assert (ROOT / "tlc_jax" / f"{new.replace('.', '/')}.py").is_file(), new


def test_the_packages_of_the_architecture_are_those_that_are_proved() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| (.+?) \| .+ \| (.*?) ?\|$", text, flags=re.MULTILINE)
    levels: dict[int, set[str]] = {}
    for level, package, libraries in rows:
        name = "" if package.startswith("commands") else package.strip("`")
        levels.setdefault(int(level), set()).add(name)
        ours = {library for library, home in ONLY_HERE.items() if home.partition("/")[0] == name}
        assert {part.split(" (")[0] for part in libraries.split(", ") if part} == ours, package
    assert [levels[i] for i in sorted(levels)] == LEVELS


def names_in(file: str) -> str:
    return " ".join(re.findall(r"def (test_\w+)", (ROOT / file).read_text(encoding="utf-8")))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0].strip()[:60])
def test_each_fault_names_a_test_that_is_there(row: list[str]) -> None:
    cell = row[2].replace("\\|", " ")
    if "by hand" in cell or "script" in cell:
        return
    file, count = "", 0
    for piece in (piece.strip() for piece in re.findall(r"`([^`]+)`", cell)):
        letter, _, fragment = piece.partition(" ")
        if letter in LETTERS:
            file, piece = LETTERS[letter], fragment
        if piece.startswith("tests/"):
            file, piece = piece, ""
        assert (ROOT / file).is_file(), f"{cell}: there is no {file}"
        assert piece in names_in(file), f"{cell}: {file} has no test {piece}"
        count += 1
    assert count, f"{row[0]}: no test is named"
