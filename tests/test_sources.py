"""Sources: every kind of file, and a clear refusal for everything else."""

from __future__ import annotations

import gzip
import json
import shutil
import time
from pathlib import Path

import numpy as np
import pyarrow
import pytest

from tests.words import documents
from tlc_jax.config import DataConfig
from tlc_jax.core.errors import UserError
from tlc_jax.data.sources import open_source


def read(**fields: str) -> list[str]:
    return list(open_source(DataConfig(**fields)).documents())


def test_folder_glob_and_single_file(corpus: Path) -> None:
    texts = documents(400)
    assert sorted(read(dir=str(corpus))) == sorted(texts)
    assert read(dir=str(corpus / "*.jsonl")) == texts[266:]
    assert read(dir=str(corpus / "two.txt.gz")) == texts[133:266]
    assert read(dir=str(corpus / "**" / "o*.txt")) == texts[:133]


def test_zst(tmp_path: Path) -> None:
    with pyarrow.output_stream(str(tmp_path / "a.txt.zst"), compression="zstd") as file:
        file.write("one\r\ntwo\n\n\n\nthree é".encode())
    assert read(dir=str(tmp_path)) == ["one\ntwo", "three é"]


@pytest.mark.parametrize("suffix", ["gz", "zst"])
def test_a_truncated_archive_is_refused(tmp_path: Path, suffix: str) -> None:
    """Python's and zstandard's own readers disagree here: zstandard gives a shorter text."""
    path = tmp_path / f"a.txt.{suffix}"
    text = "\n\n".join(documents(300)).encode()
    with pyarrow.output_stream(str(path), compression={"gz": "gzip", "zst": "zstd"}[suffix]) as file:
        file.write(text)
    whole = path.read_bytes()
    for cut in (len(whole) // 2, len(whole) - 3):
        path.write_bytes(whole[:cut])
        with pytest.raises(UserError, match=f"a.txt.{suffix} cannot be read"):
            read(dir=str(path))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'{"text": "x"}\n{"body": "y"}\n', "a.jsonl line 2 .*'text'"),
        ("a.jsonl", b'{"text": "x"}\nnot json\n', "a.jsonl line 2"),
        ("a.jsonl", b'{"text": 3}\n', "'text' is not a string"),
        ("a.jsonl", b"[1]\n", "a.jsonl line 1"),
        ("a.txt", b"fine\n\xff\xfe\n", "a.txt cannot be read .*utf-8"),
        ("a.pdf", b"", "none of .txt"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        read(dir=str(tmp_path / name))


def test_missing_places(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        read(dir=str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match="no file of"):
        read(dir=str(tmp_path))
    with pytest.raises(UserError, match="no file of"):
        read(dir=str(tmp_path / "*.txt"))
    with pytest.raises(UserError, match=r"data\.dir is not set"):
        read()


def test_another_text_field(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps({"body": "hello"}) + "\n\n")
    assert read(dir=str(tmp_path), text_field="body") == ["hello"]


def test_identity_is_of_content(tmp_path: Path, corpus: Path) -> None:
    copy = shutil.copytree(corpus, tmp_path / "copy")

    def identity(folder: Path) -> str:
        return open_source(DataConfig(dir=str(folder))).identity()

    assert identity(corpus) == identity(copy)
    text = (copy / "one.txt").read_bytes()
    (copy / "one.txt").write_bytes(text[:-2] + b"!\n")
    assert identity(corpus) != identity(copy)


@pytest.fixture(scope="module")
def tfds_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared TFDS dataset as TFDS itself writes it, without TensorFlow."""
    import tensorflow_datasets as tfds

    class Notes(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.0.0")
        BUILDER_CONFIGS = [tfds.core.BuilderConfig(name="plain", version="1.0.0")]  # noqa: RUF012
        name = "notes"
        pkg_dir_path = None

        def _info(self):
            features = tfds.features.FeaturesDict({"text": tfds.features.Text(), "n": np.int64})
            return tfds.core.DatasetInfo(builder=self, features=features)

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            yield from ((i, {"text": text, "n": i}) for i, text in enumerate(documents(300)))

    folder = tmp_path_factory.mktemp("tfds")
    Notes(data_dir=folder, config="plain", file_format="array_record").download_and_prepare()
    return folder


def test_tfds(tfds_dir: Path) -> None:
    assert sorted(read(name="notes/plain", dir=str(tfds_dir))) == sorted(documents(300))
    twice = read(name="notes/plain+notes/plain", dir=str(tfds_dir))
    assert len(twice) == 600


def test_tfds_refusals(tfds_dir: Path, tmp_path: Path) -> None:
    started = time.monotonic()
    with pytest.raises(UserError, match="wikipedia/20230601.en is not prepared under"):
        read(name="wikipedia/20230601.en", dir=str(tfds_dir))
    assert time.monotonic() - started < 10, "TFDS retries for minutes when it is allowed to download"
    with pytest.raises(UserError, match="has no split 'test'"):
        read(name="notes/plain", dir=str(tfds_dir), split="test")
    with pytest.raises(UserError, match="set --data.text-field to one of n, text|text, n"):
        read(name="notes/plain", dir=str(tfds_dir), text_field="body")
    broken = shutil.copytree(tfds_dir, tmp_path / "broken")
    shard = next(broken.rglob("*array_record*"))
    shard.write_bytes(shard.read_bytes()[: shard.stat().st_size // 2])
    with pytest.raises(UserError, match="damaged"):
        read(name="notes/plain", dir=str(broken))


def test_docs_read_no_folder() -> None:
    with pytest.raises(ValueError, match=r"data\.dir .* data\.name is 'docs'"):
        DataConfig(name="docs", dir="somewhere")


def test_gzip_of_several_members(tmp_path: Path) -> None:
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"one\n\n") + gzip.compress(b"two\n"))
    assert read(dir=str(tmp_path)) == ["one", "two"]
