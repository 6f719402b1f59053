"""`prepare` from published archives: GLUE's zips, WMT's tars; archives that are cut, changed or malicious."""

from __future__ import annotations

import gzip
import hashlib
import stat
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.builders import sentence_pairs
from tests.data.published_archives import COLA, MNLI, QQP, SST2, run, tarred, zipped
from tlc_jax.config import DataConfig
from tlc_jax.config.data import PairsConfig
from tlc_jax.core.errors import UserError
from tlc_jax.data.labelled.data_sets import open_labelled
from tlc_jax.data.pairs.pair_sources import open_pairs
from tlc_jax.data.preparation import known_data
from tlc_jax.storage import sealed


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """A function after which an archive counts as the one that was published under its name."""

    def publish(path: Path) -> None:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        for data in known_data.KNOWN:
            for archive in data.archives:
                if archive.name == path.name:
                    monkeypatch.setitem(vars(archive), "sha256", digest)

    return publish


# --- archives as they were published ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "archive", "files", "labels", "reported"),
    [
        ("glue/sst2", "SST-2.zip", SST2, ("negative", "positive"), ("validation",)),
        ("glue/cola", "CoLA.zip", COLA, ("acceptable", "unacceptable"), ("validation",)),
        (
            "glue/mnli",
            "MNLI.zip",
            MNLI,
            ("contradiction", "entailment", "neutral"),
            ("validation_matched", "validation_mismatched"),
        ),
    ],
)
def test_a_zip_of_glue(
    name: str,
    archive: str,
    files: Mapping[str, str],
    labels: tuple[str, ...],
    reported: tuple[str, ...],
    published: Callable[[Path], None],
    tmp_path: Path,
) -> None:
    path = zipped(tmp_path / archive, files)
    published(path)
    about = run(tmp_path / "out", name, "--input", path)
    source = open_labelled(DataConfig(name=name, dir=str(tmp_path / "out")))
    assert source.label_names == labels
    assert source.reported == reported
    assert len(source.read("train").labels) == about["counts"]["train"]["rows"] == 60
    assert source.read("train").texts[0] == {
        "glue/sst2": ('a "fine" film ',),
        "glue/cola": ("They drank the pub.",),
        "glue/mnli": ("A man.", "A person."),
    }[name]  # fmt: skip
    assert source.label_names[source.read("train").labels[0]] == {
        "glue/sst2": "positive",
        "glue/cola": "acceptable",
        "glue/mnli": "entailment",
    }[name]  # fmt: skip
    assert about["inputs"] == [{"name": archive, "bytes": path.stat().st_size, "sha256": sealed.sha256(path)}]
    assert "label" not in about["counts"][next(split for split in about["counts"] if "test" in split)]
    assert about["revision"] is None
    with zipfile.ZipFile(path) as unpacked:
        unpacked.extractall(tmp_path)
    again = run(tmp_path / "again", name, "--input", tmp_path / archive.removesuffix(".zip"))
    assert again["counts"] == about["counts"]


def test_damaged_rows_of_the_published_files_are_counted(published: Callable, tmp_path: Path) -> None:
    path = zipped(tmp_path / "QQP.zip", QQP)
    published(path)
    about = run(tmp_path / "out", "glue/qqp", "--input", tmp_path)
    assert about["counts"]["train"]["left_out"] == {"too few cells in the published file": 1}
    assert about["counts"]["train"]["labels"] == {"duplicate": 20, "not_duplicate": 20}


def corpora(folder: Path) -> dict[str, list[tuple[str, str]]]:
    """WMT14's archives in a folder; the pairs in them by split."""
    sides: dict[str, tuple[bytes, bytes]] = {}
    pairs: dict[str, list[tuple[str, str]]] = {"train": [], "validation": [], "test": []}
    [data] = [data for data in known_data.KNOWN if data.kind == "pairs"]
    for seed, archive in enumerate(data.archives):
        files = {"training/europarl-v7.de-en.en": b"other\n", "other/": b""}
        for part in archive.parts:
            lines = sentence_pairs(20, seed)
            pairs[part.split] += lines
            for name, side in zip(part.files, zip(*lines, strict=True), strict=True):
                text = "".join(f"{line}\n" for line in side)
                if name.endswith(".sgm"):
                    text = "<srcset>\n" + "".join(
                        f'<seg id="{i}"> {line} &amp; </seg>\n' for i, line in enumerate(side)
                    )
                files[name] = gzip.compress(text.encode()) if name.endswith(".gz") else text.encode()
            if part.split == "test":
                pairs["test"] = [(f"{one} &", f"{other} &") for one, other in lines]
        tarred(folder / archive.name, files)
    assert not sides
    return pairs


def test_the_archives_of_wmt14(published: Callable[[Path], None], tmp_path: Path) -> None:
    (tmp_path / "wmt").mkdir()
    expected = corpora(tmp_path / "wmt")
    for path in (tmp_path / "wmt").iterdir():
        published(path)
    about = run(tmp_path / "out", "wmt14_translate/fr-en", "--input", tmp_path / "wmt")
    assert len(list((tmp_path / "out").glob("train-*-of-00005.tsv.zst"))) == 5
    sets = open_pairs(PairsConfig(dir=str(tmp_path / "out")))
    for part, split in ((sets.train, "train"), (sets.validation, "validation"), (sets.test, "test")):
        assert list(part[0].pairs()) == expected[split]
        assert about["counts"][split]["rows"] == len(expected[split])
    (tmp_path / "wmt" / "training-giga-fren.tar").unlink()
    with pytest.raises(
        UserError, match=r"also needs training-giga-fren\.tar: download http://\S+, and put it beside"
    ):
        run(tmp_path / "b", "wmt14_translate/fr-en", "--input", tmp_path / "wmt")


# --- archives with faults --------------------------------------------------------------------------


def test_another_archive_than_was_published_is_refused(tmp_path: Path) -> None:
    path = zipped(tmp_path / "SST-2.zip", SST2)
    message = r"SST-2\.zip is not the SST-2\.zip that was published \(SHA-256 .* in place of d67e16fb55739c1b"
    with pytest.raises(UserError, match=message):
        run(tmp_path / "out", "glue/sst2", "--input", path)
    assert [path.name for path in tmp_path.iterdir()] == ["SST-2.zip"]


@pytest.mark.parametrize("suffix", [".zip", ".tgz", ".tar"])
@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "text"])
def test_a_damaged_archive_is_refused(damage: str, suffix: str, tmp_path: Path) -> None:
    text = "".join(f"{one}\n\n" for one, _ in sentence_pairs(3000))
    path = tmp_path / f"a{suffix}"
    zipped(path, {"a.txt": text}) if suffix == ".zip" else tarred(path, {"a.txt": text.encode()})
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    cut = bytes(content[: len(content) // 2])
    path.write_bytes({"cut": cut, "flipped": content, "empty": b"", "text": b"no archive" * 99}[damage])
    if (damage, suffix) == ("flipped", ".tar"):  # it has no digest of its files
        assert run(tmp_path / "out", "text", "--input", path)["counts"]["text"]["rows"] == 3000
        return
    with pytest.raises(UserError, match=r"a\.\w+ is damaged or incomplete \(.+\): download it again"):
        run(tmp_path / "out", "text", "--input", path)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("suffix", [".zip", ".tgz"])
@pytest.mark.parametrize("name", ["../x.txt", "/tmp/x.txt", "a/../../x.txt", "..\\x.txt"])
def test_a_malicious_member_is_refused(name: str, suffix: str, tmp_path: Path) -> None:
    files = {"a.txt": "one\n\ntwo", name: "bad"}
    path = tmp_path / "inside" / f"a{suffix}"
    path.parent.mkdir()
    zipped(path, files) if suffix == ".zip" else tarred(path, {n: t.encode() for n, t in files.items()})
    with pytest.raises(
        UserError, match=r"holds the file .*x\.txt.*, whose name does not stay inside a folder"
    ):
        run(path.parent / "out", "text", "--input", path)
    assert not list(tmp_path.rglob("*x.txt"))


def test_a_bomb_and_a_link_are_not_unpacked(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", {"a.txt": "word " * 8_000_000})
    with pytest.raises(UserError, match=r"a\.zip: a\.txt expands to 40 MB, \d+ times the size of"):
        run(tmp_path / "out", "text", "--input", path)
    assert [other.name for other in tmp_path.iterdir()] == ["a.zip"], "nothing of it is left on the disk"
    with zipfile.ZipFile(tmp_path / "c.zip", "w") as archive:
        symlink = zipfile.ZipInfo("c.txt")
        symlink.create_system, symlink.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
        archive.writestr(symlink, "/etc/passwd")
    with pytest.raises(UserError, match=r"has no file of \.txt"):
        run(tmp_path / "out3", "text", "--input", tmp_path / "c.zip")
    with tarfile.open(tmp_path / "b.tar", "w") as archive:
        link = tarfile.TarInfo("b.txt")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    with pytest.raises(UserError, match=r"has no file of \.txt"):
        run(tmp_path / "out2", "text", "--input", tmp_path / "b.tar")
