"""`prepare` from files on this disk: any text, table and pairs; a full disk; two processes."""

from __future__ import annotations

import gzip
import json
import os
import shlex
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.data.published_archives import run, tarred, zipped
from tests.data.test_csv_and_parquet import parquet
from tlc_jax import prepare, train
from tlc_jax.config import DataConfig
from tlc_jax.config.data import PairsConfig
from tlc_jax.core import cli
from tlc_jax.core.entry_point import explained
from tlc_jax.core.errors import UserError
from tlc_jax.data.labelled.data_sets import open_labelled
from tlc_jax.data.pairs.pair_sources import open_pairs
from tlc_jax.data.preparation import archives, known_data, preparation_plan, preparing
from tlc_jax.data.preparation.public_data import KINDS, Publication, PublicData
from tlc_jax.data.text.sources import open_source
from tlc_jax.storage import sealed
from tlc_jax.storage.paths import locked_folder

# --- any text, tables and pairs --------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["repository", "task", "flat"])
def test_files_that_another_machine_has_downloaded(layout: str, tmp_path: Path) -> None:
    """As `hf download --local-dir` writes them, one task of it, or the files alone."""
    inner = {"repository": "copy/sst2", "task": "sst2", "flat": "copy"}[layout]
    folder = tmp_path / inner
    folder.mkdir(parents=True)
    for split in ("train", "validation", "test"):
        labels = [-1, -1] if split == "test" else [0, 1]
        path = folder / f"{split}-00000-of-00001.parquet"
        parquet(path, {"label": ["negative", "positive"]}, sentence=["no", "yes"], label=labels)
    if layout == "repository":
        (tmp_path / "copy" / "cola").mkdir()
        parquet(tmp_path / "copy" / "cola" / "train-00000-of-00001.parquet", sentence=["other"], label=[0])
        (tmp_path / "copy" / ".cache").mkdir()
        (tmp_path / "copy" / ".cache" / "train-00000-of-00001.parquet").write_text("no")
    about = run(tmp_path / "out", "glue/sst2", "--input", tmp_path / inner.partition("/")[0])
    assert {split: counts["rows"] for split, counts in about["counts"].items()} == {
        "train": 2, "validation": 2, "test": 2,
    }  # fmt: skip
    assert about["counts"]["train"]["labels"] == {"negative": 1, "positive": 1}


def test_any_text(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    (folder / "deep").mkdir(parents=True)
    (folder / "a.txt").write_text("one\ntwo\n\nthree")
    (folder / "deep" / "b.jsonl.gz").write_bytes(gzip.compress(b'{"text": "four"}\n{"text": " "}\n'))
    parquet(folder / "c.parquet", text=["five", None, "six"], url=["a", "b", "c"])
    (folder / ".hidden.txt").write_text("no")
    (folder / "notes.md").write_text("no")
    zipped(folder / "d.zip", {"in/d.txt": "seven", "in/e.md": "no"})
    about = run(tmp_path / "out", "text", "--input", folder, "--licence", "CC0-1.0")
    assert list(open_source(DataConfig(dir=str(tmp_path / "out"))).documents()) == [
        "one\ntwo", "three", "five", "six", "seven", "four",
    ]  # fmt: skip
    assert about["licence"] == "CC0-1.0"
    assert about["counts"] == {"text": {"rows": 6, "characters": 28, "left_out": {"an empty text": 1}}}
    assert [entry["name"] for entry in about["inputs"]] == [
        "mine/a.txt",
        "mine/c.parquet",
        "d.zip",
        "mine/deep/b.jsonl.gz",
    ]
    with pytest.raises(UserError, match=r"c\.parquet has no column body; it has text, url"):
        run(tmp_path / "b", "text", "--input", folder / "c.parquet", "--columns", "text=body")
    for pattern, column, rows in (("*.parquet", "url", 3), ("*.txt", "text", 2)):  # .hidden.txt is not one
        about = run(
            tmp_path / pattern[2:], "text", "--input", folder / pattern, "--columns", f"text={column}"
        )
        assert about["counts"]["text"]["rows"] == rows


@pytest.mark.parametrize("packed", ["", ".tar", ".tgz", ".zip"])
def test_many_small_files_become_few_shards(
    packed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A .tar is read once to list it and once to unpack it."""
    texts = {f"books/{i:04d}.txt": f"Book {i}." for i in range(300)}
    if packed == ".zip":
        path = zipped(tmp_path / "books.zip", texts)
    elif packed:
        path = tarred(tmp_path / f"books{packed}", {name: text.encode() for name, text in texts.items()})
    else:
        path = tmp_path / "books"
        path.mkdir()
        for name, text in texts.items():
            (tmp_path / name).write_text(text)
    monkeypatch.setattr(preparation_plan, "_MOST_SHARDS", 20)
    opened = []
    original = tarfile.open
    monkeypatch.setattr(archives.tarfile, "open", lambda *a, **k: opened.append(1) or original(*a, **k))
    about = run(tmp_path / "out", "text", "--input", path)
    assert len(opened) == (2 if packed.startswith(".t") else 0)
    assert 10 < len(list((tmp_path / "out").glob("*.zst"))) <= 20
    assert list(open_source(DataConfig(dir=str(tmp_path / "out"))).documents()) == list(texts.values())
    assert about["input_count"] == 300
    assert len(about["inputs"]) == (1 if packed else 300)


def test_labelled_tables(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "train.csv").write_text(
        "review,stars\n" + '"good, very\n good",-1\nbad,1\n,1\nso,0\n' * 20
    )
    (tmp_path / "in" / "dev.jsonl").write_text(
        '{"review": "a", "stars": 1}\n{"review": "b", "stars": null}\n'
    )
    parquet(tmp_path / "in" / "test-00000-of-00002.parquet", review=["c"], stars=[-1])
    parquet(tmp_path / "in" / "test-00001-of-00002.parquet", review=["d"], stars=[-1])
    about = run(
        tmp_path / "out", "labelled", "--input", tmp_path / "in", "--columns", "text=review", "label=stars"
    )
    assert about["counts"]["train"] == {
        "rows": 60,
        "characters": 20 * (16 + 3 + 2),
        "left_out": {"an empty text": 20},
        "labels": {"-1": 20, "0": 20, "1": 20},
    }
    assert about["counts"]["dev"]["left_out"] == {"no label, unlike others": 1}
    assert about["counts"]["test"] == {"rows": 2, "characters": 2}
    source = open_labelled(DataConfig(dir=str(tmp_path / "out")))
    assert source.read("train").texts[0] == ("good, very\n good",)
    assert source.label_names == ("-1", "0", "1")
    assert source.reported == ("dev",)


def test_sentence_pairs(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text('en,de\n"one, two","eins\nzwei"\nthree,drei\n')
    parquet(tmp_path / "test.parquet", translation=[{"en": "four", "de": "vier"}])
    with pytest.raises(UserError, match=r"pairs need the columns of both languages, such as --columns en="):
        run(tmp_path / "out", "pairs", "--input", tmp_path / "train.csv")
    about = run(tmp_path / "out", "pairs", "--input", tmp_path / "train.csv", "--columns", "en=en", "de=de")
    config = PairsConfig(
        train="train-*.tsv.zst", validation="", test="", target="de", dir=str(tmp_path / "out")
    )
    assert list(open_pairs(config).train[0].pairs()) == [("one, two", "eins zwei"), ("three", "drei")]
    assert about["counts"]["train"]["rows"] == 2
    columns = ("--columns", "en=translation.en", "de=translation.de")
    assert (
        run(tmp_path / "b", "pairs", "--input", tmp_path / "test.parquet", *columns)["counts"]["test"]["rows"]
        == 1
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("text",), r"text needs --input: files, folders, archives, or hf://datasets/OWNER/NAME/FILES"),
        (
            ("text", "--input", "broken.csv", "--out", "gs://b/c"),
            r"--out gs://b/c is no folder on this machine",
        ),
        (
            ("glue/sst2", "--input", "hf://datasets/a/b"),
            r"glue/sst2 is read from nyu-mll/glue alone: .* as NAME",
        ),
        (("text", "--input", "nothing"), r"--input nothing does not exist"),
        (("text", "--input", "broken.csv"), r"has no file of \.txt"),
        (("text", "--input", "hf://models/x"), r"is not hf://datasets/OWNER/NAME"),
        (("labelled", "--input", "broken.csv", "--columns", "text"), r"--columns text is not FIELD=COLUMN"),
        (
            ("labelled", "--input", "broken.csv", "--columns", "body=a"),
            r"--columns body=\.\.\.: the fields are label, t",
        ),
        (("labelled", "--input", "broken.csv"), r"broken\.csv line 3 has 1 cell between commas"),
        (
            ("labelled", "--input", "empty.csv"),
            r"nothing is left to write to empty\.jsonl\.zst \(there are no rows\)",
        ),
        (
            ("glue/sst2", "--input", "broken.csv"),
            r"there is no sst2/train-\*\.parquet for glue/sst2: download https",
        ),
        (
            ("wikipedia", "--input", "no.parquet"),
            r"no\.parquet has no column text; it has body: .* --columns text=body$",
        ),
    ],
)
def test_wrong_input_is_named(
    options: tuple[str, ...], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("broken.csv").write_text("text,label\na,x\nb\n")
    Path("empty.csv").write_text("text,label\n")
    parquet(Path("no.parquet"), body=["a"])
    with pytest.raises(UserError, match=message):
        run(tmp_path / "out", *options)
    assert not Path("out").exists()


@pytest.mark.parametrize("data", known_data.KNOWN, ids=lambda data: data.name)
def test_every_data_set_is_read_by_options_that_exist(
    data: PublicData, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "train" in [part.split for part in data.parts]
    assert data.published.keys() <= {part.split for part in data.parts}
    for archive in data.archives:
        assert {part.split for part in archive.parts} <= {part.split for part in data.parts}
    parsed = []
    original = cli.parse

    def only_parse(*arguments: Any, **options: Any) -> None:
        parsed.append(original(*arguments, **options))
        raise UserError("parsed")

    monkeypatch.setattr(cli, "parse", only_parse)
    with pytest.raises(UserError, match="parsed"):
        train.main([*shlex.split(data.options), "--workdir", "W", "--data.dir", "D"])
    config = parsed[0].settings.data
    if data.kind == "pairs":
        assert config.train == f"{data.name}:train"
    else:
        assert config.name in {"text": ("files",), "labelled": ("files", data.name)}[data.kind]


def test_the_help_names_every_data_set() -> None:
    names = [data.name for data in known_data.KNOWN]
    text = " ".join(str(prepare.Prepare.__doc__).split())
    assert f"NAME is {', '.join(names[:-1])} or {names[-1]}; or" in text
    assert f"their kind: {', '.join(KINDS[:-1])} or {KINDS[-1]}." in text
    assert all(
        isinstance(archive, Publication) and archive.parts
        for data in known_data.KNOWN
        for archive in data.archives
    )


# --- disks -----------------------------------------------------------------------------------------


def test_the_space_is_asked_for_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.txt").write_text("one\n\ntwo" * 1000)
    usage = shutil._ntuple_diskusage(10**9, 10**9, 100)  # type: ignore[attr-defined]
    monkeypatch.setattr(preparing.shutil, "disk_usage", lambda path: usage)
    message = (
        r"needs about 0\.0 GB on the disk of .*, which has 0\.0 GB: free some space, or give --out on another"
    )
    with pytest.raises(UserError, match=message):
        run(tmp_path / "out", "text", "--input", tmp_path / "a.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_a_disk_that_is_full_meanwhile_is_named_and_the_rest_kept(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / f"{name}.txt").write_text(f"one {name}\n\ntwo {name}")
    inputs = ("--input", tmp_path / "a.txt", tmp_path / "b.txt")
    unfinished = tmp_path / "out.unfinished" / "data"
    unfinished.mkdir(parents=True)
    full = unfinished / "text-00001-of-00002.jsonl.zst.part"
    full.symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left") as caught:
        run(tmp_path / "out", "text", *inputs)
    assert f"{full} cannot be read or written (No space left on device): free some space" in str(
        explained(caught.value)
    )
    first = (unfinished / "text-00000-of-00002.jsonl.zst").stat().st_mtime_ns
    full.unlink()
    run(tmp_path / "out", "text", *inputs)
    assert (tmp_path / "out" / "text-00000-of-00002.jsonl.zst").stat().st_mtime_ns == first
    assert list(open_source(DataConfig(dir=str(tmp_path / "out"))).documents()) == [
        "one a",
        "two a",
        "one b",
        "two b",
    ]


def test_one_process_at_a_time(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one")
    (tmp_path / "out.unfinished").mkdir()
    with (
        locked_folder(tmp_path / "out.unfinished"),
        pytest.raises(UserError, match="another process prepares .*out: wait for it"),
    ):
        run(tmp_path / "out", "text", "--input", tmp_path / "a.txt")


def test_a_file_that_was_changed_between_two_processes_is_read_again(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / f"{name}.txt").write_text(f"one {name}\n\ntwo {name}")
    (tmp_path / "b.txt").write_bytes(b"\xff\xfe")
    inputs = ("--input", tmp_path / "a.txt", tmp_path / "b.txt")
    with pytest.raises(UserError, match="UTF-16"):
        run(tmp_path / "out", "text", *inputs)
    (tmp_path / "a.txt").write_text("three")
    (tmp_path / "b.txt").write_text("four")
    run(tmp_path / "out", "text", *inputs)
    assert list(open_source(DataConfig(dir=str(tmp_path / "out"))).documents()) == ["three", "four"]


def test_a_shard_that_was_changed_before_it_is_sealed_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.txt").write_text("one\n\ntwo")
    seal = sealed.seal

    def change_and_seal(folder: Path, about: dict[str, Any]) -> dict[str, Any]:
        [shard] = folder.glob("*.zst")  # in the folder "data" of the unfinished one
        content = bytearray(shard.read_bytes())
        content[-1] ^= 1
        shard.write_bytes(content)
        return seal(folder, about)

    with monkeypatch.context() as patch:
        patch.setattr(sealed, "seal", change_and_seal)
        with pytest.raises(
            UserError, match=r"text-00000-of-00001\.jsonl\.zst was changed after it was written"
        ):
            run(tmp_path / "out", "text", "--input", tmp_path / "a.txt")
    run(tmp_path / "out", "text", "--input", tmp_path / "a.txt")


def test_a_large_file_is_read_in_bounded_memory(tmp_path: Path) -> None:
    """Texts of 60 MB in one row group; the process may have 30 MB more than for texts of 1 MB."""
    peaks = []
    for count in (1000, 60_000):
        path = tmp_path / f"{count}.parquet"
        pq.write_table(
            pa.table({"text": [f"{i:09d}" * 111 for i in range(count)]}), path, row_group_size=count
        )
        code = (
            "import re, sys\nfrom tlc_jax import prepare\nprepare.main(sys.argv[1:])\n"
            "print(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1])"
        )
        command = [
            sys.executable,
            "-c",
            code,
            "text",
            "--input",
            str(path),
            "--out",
            str(tmp_path / f"out{count}"),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=dict(os.environ))
        peaks.append(int(done.stdout.split()[-1]))
    assert peaks[1] - peaks[0] < 30_000, json.dumps(peaks)
