"""TFDS datasets that anybody prepared: text is read, no code is run, no other folder is looked into."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.builders import documents, write_tfds
from tlc_jax.config import DataConfig
from tlc_jax.core.errors import UserError
from tlc_jax.data.text.sources import open_source


def read(**fields: str) -> list[str]:
    return list(open_source(DataConfig(**fields)).documents())


@pytest.fixture(scope="module")
def tfds_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared TFDS dataset as TFDS itself writes it, without TensorFlow."""
    rows = [{"text": text, "n": i} for i, text in enumerate(documents(300))]
    features = {"text": str, "n": np.int64}
    return write_tfds(tmp_path_factory.mktemp("tfds"), "notes/plain", features, {"train": rows})


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


@pytest.fixture
def changed(tfds_dir: Path, tmp_path: Path) -> Callable[[str, Callable[[Any], object]], Path]:
    """A copy of the dataset with one of its JSON files altered."""

    def change(name: str, alter: Callable[[Any], object]) -> Path:
        copy = shutil.copytree(tfds_dir, tmp_path / "copy")
        path = copy / "notes" / "plain" / "1.0.0" / name
        value = json.loads(path.read_text(encoding="utf-8"))
        alter(value)
        path.write_text(json.dumps(value), encoding="utf-8")
        return copy

    return change


@pytest.fixture
def marker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module on the path that leaves this file when it is imported."""
    (tmp_path / "modules").mkdir()
    code = f"open({str(tmp_path / 'marker')!r}, 'w')"
    (tmp_path / "modules" / "tlc_jax_evil.py").write_text(code, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path / "modules")
    return tmp_path / "marker"


EVIL = {"pythonClassName": "tlc_jax_evil.Feature", "text": {}}
DICT = "tensorflow_datasets.core.features.features_dict.FeaturesDict"
SEQUENCE = "tensorflow_datasets.core.features.sequence_feature.Sequence"


@pytest.mark.parametrize(
    ("name", "alter"),
    [
        ("features.json", lambda f: f["featuresDict"]["features"].update(text=EVIL)),
        ("features.json", lambda f: f.update(pythonClassName="tlc_jax_evil.Feature")),
        ("features.json", lambda f: f.update(python_class_name="tlc_jax_evil.Feature")),
        ("features.json", lambda f: f.update(type="tlc_jax_evil.Feature", content={})),
        (
            "features.json",
            lambda f: f["featuresDict"]["features"].update(
                more={"pythonClassName": SEQUENCE, "sequence": {"feature": EVIL}}
            ),
        ),
        (
            "features.json",
            lambda f: f["featuresDict"]["features"].update(
                more={
                    "pythonClassName": DICT,
                    "jsonFeature": {"json": '{"x": {"type": "tlc_jax_evil.F"}}'},
                }
            ),
        ),
        ("dataset_info.json", lambda info: info.update(features=EVIL)),
    ],
)
def test_features_name_no_code(
    changed: Callable[..., Path], marker: Path, name: str, alter: Callable[[Any], object]
) -> None:
    with pytest.raises(UserError, match=r"TFDS dataset .*1.0.0 cannot be read \(features"):
        read(name="notes/plain", dir=str(changed(name, alter)))
    assert not marker.exists()
    assert "tlc_jax_evil" not in sys.modules


def test_tfds_itself_would_have_run_it(changed: Callable[..., Path], marker: Path) -> None:
    """Why features are looked at; when this fails, it need not be any more."""
    import tensorflow_datasets as tfds

    root = changed("features.json", lambda f: f["featuresDict"]["features"].update(text=EVIL))
    with pytest.raises(ValueError, match="Unrecognized FeatureConnector"):
        tfds.builder_from_directory(root / "notes" / "plain" / "1.0.0")
    assert marker.exists()
    del sys.modules["tlc_jax_evil"]


@pytest.mark.parametrize(
    ("name", "alter", "says"),
    [
        ("dataset_info.json", lambda i: i["splits"][0].update(filepathTemplate="/etc/{SPLIT}"), "outside"),
        ("dataset_info.json", lambda i: i["splits"][0].update(filepathTemplate="../{SPLIT}"), "outside"),
        ("dataset_info.json", lambda i: i.update(fileFormat="tfrecord"), "cannot be read"),
        ("dataset_info.json", lambda i: i["splits"].clear(), "cannot be read"),
        (
            "features.json",
            lambda f: f["featuresDict"]["features"].update({"../x": f["featuresDict"]["features"]["n"]}),
            "a feature called ../x",
        ),
        (
            "features.json",
            lambda f: f["featuresDict"]["features"]["n"]["tensor"].update(dtype="tf.function"),
            "has the dtype tf.function",
        ),
    ],
)
def test_datasets_of_strangers_are_refused_in_a_sentence(
    changed: Callable[..., Path], name: str, alter: Callable[[Any], object], says: str
) -> None:
    with pytest.raises(UserError, match=rf"TFDS dataset .*{says}"):
        read(name="notes/plain", dir=str(changed(name, alter)))


@pytest.mark.parametrize("name", ["../notes/plain", "/etc", "notes/../../notes", "", "notes//plain", "."])
def test_names_stay_in_the_folder(tfds_dir: Path, name: str) -> None:
    with pytest.raises(UserError, match=r"data.name .* is not the name of a TFDS dataset"):
        read(name=name, dir=str(tfds_dir))


@pytest.mark.parametrize("split", ["../train", "train[:10%]", "", "train+train", "/etc/passwd"])
def test_splits_are_plain_names(tfds_dir: Path, split: str) -> None:
    with pytest.raises(UserError, match="has no split"):
        read(name="notes/plain", dir=str(tfds_dir), split=split)
