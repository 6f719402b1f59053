"""The list of labelled data sets, and a new entry in it: a data set as TFDS writes it, with its metric."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from tests.builders import documents, write_tfds
from tlc_jax.config import DataConfig
from tlc_jax.core.errors import UserError
from tlc_jax.data.labelled import data_sets
from tlc_jax.data.labelled.data_sets import DATA_SETS, find_data_set, open_labelled
from tlc_jax.data.labelled.example_packing import prepare_examples
from tlc_jax.data.labelled.labelled_source import NO_LABEL
from tlc_jax.data.labelled.tfds_labelled import tfds_data_set
from tlc_jax.data.tokenizer import train_tokenizer
from tlc_jax.tasks.metric import CONFUSION_METRICS

LABELS = ("unacceptable", "acceptable")
SIZES = {"train": 40, "validation": 12, "test": 5}


def test_names_differ_and_metrics_exist() -> None:
    assert len({data_set.name for data_set in DATA_SETS}) == len(DATA_SETS)
    assert {data_set.metric for data_set in DATA_SETS} <= CONFUSION_METRICS.keys()
    with pytest.raises(UserError, match="data.name glue/x is no .*: give one of files, .*docs/pair"):
        find_data_set("glue/x")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sentences with the features of GLUE's CoLA: sentence, label, idx; test has the label -1."""
    splits = {
        split: [
            {"sentence": text, "label": -1 if split == "test" else i % 2, "idx": i}
            for i, text in enumerate(documents(size, seed=len(split)))
        ]
        for split, size in SIZES.items()
    }
    features = {"sentence": str, "label": LABELS, "idx": np.int32}
    return write_tfds(tmp_path_factory.mktemp("tfds"), "acceptability", features, splits)


def test_a_new_data_set_is_one_record(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fields = {"fields": ("sentence",), "reported": ("validation",), "unlabelled": ("test",)}
    record = tfds_data_set("acceptability", **fields, metric="matthews")
    monkeypatch.setattr(data_sets, "DATA_SETS", (*DATA_SETS, record))
    train_tokenizer(documents(60), 300).save(str(tmp_path / "tokenizer.json"))
    config = DataConfig(
        name="acceptability",
        dir=str(folder),
        tokenizer=str(tmp_path / "tokenizer.json"),
        sequence_length=32,
        held_out=0.2,
        cache_dir=str(tmp_path / "cache"),
    )
    packed = prepare_examples(config, 300, Console(quiet=True))
    assert packed.metric == "matthews"
    assert packed.reported == ("validation",)
    assert packed.manifest["label_names"] == list(LABELS)
    sizes = packed.manifest["examples"]
    assert sizes["train"] + sizes["tuning"] == SIZES["train"]
    for model_labels in (LABELS, LABELS[::-1]):
        source = open_labelled(config, model_labels)
        assert source.read("test").labels == [NO_LABEL] * SIZES["test"]
        names = [model_labels[label] for label in source.read("validation").labels]
        assert sorted(names) == sorted(LABELS * (SIZES["validation"] // 2))
