"""The rows of a study as one table, read back with other readers."""

from __future__ import annotations

import csv
import dataclasses
import gzip
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from tests.studies.pages import QUICKSTART
from tests.studies.stores import SMALL, compressed, right, trained
from tlc_jax import report
from tlc_jax.config.study_options import StudyConfig
from tlc_jax.core.config_document import load_config
from tlc_jax.core.errors import UserError
from tlc_jax.storage.run_directory import STUDY, json_text
from tlc_jax.studies.item_store import ItemStore, Result, pack_scores
from tlc_jax.studies.study_record import read_config


@pytest.fixture
def store(tmp_path: Path) -> ItemStore:
    """Rows with different columns, and a count that is larger than the integers of a table."""
    workdir = tmp_path / "study"
    trained(workdir, {"1x32": {"1/2": SMALL, "1": SMALL}}, gate=2.0)
    models = {("1x32", 8, 9.0): (0.5, [0.625], [right(10)])}
    store = compressed(workdir, "accuracy", models, gate=("linear", 0.4))
    rows = [{"metric": "flops", "value": 1, "flops": 2**100, "settled": True}]
    store.seal({"item": "a", "stage": "timing", "fields": {"size": 'a "b", c\n'}, "rows": rows, "made": {}})
    (workdir / STUDY).write_text("{}")
    return store


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_rows_come_back(store: ItemStore, tmp_path: Path, suffix: str, capsys: pytest.CaptureFixture) -> None:
    output = tmp_path / "new" / f"rows.{suffix}"
    report.main(["study", str(tmp_path / "study"), "--output", str(output)])
    rows = store.rows()
    assert f"{len(rows)} rows with " in capsys.readouterr().out
    if suffix == "parquet":
        read = parquet.read_table(output).to_pylist()
        for row, back in zip(rows, read, strict=True):
            assert {name: value for name, value in back.items() if value is not None} == {
                name: value for name, value in row.items() if value is not None
            }
        return
    with output.open(newline="", encoding="utf-8") as file:
        texts = list(csv.DictReader(file))
    assert len(texts) == len(rows)
    for row, back in zip(rows, texts, strict=True):
        for name, text in back.items():
            value = row.get(name)
            if value is None:
                assert text == ""
            elif isinstance(value, bool | str):
                assert text == (str(value).lower() if isinstance(value, bool) else value)
            else:
                assert float(text) == value


def test_columns_have_one_type_and_scores_are_left_out(store: ItemStore) -> None:
    table = store.table()
    types = {name: table.schema.field(name).type for name in table.column_names}
    assert types["size"] == types["metric"] == types["item"] == pyarrow.string()
    assert types["seed"] == types["bits"] == pyarrow.int64()
    assert types["value"] == types["flops"] == types["file_bytes"] == pyarrow.float64()
    assert types["last"] == pyarrow.bool_()
    rows = [{"metric": "mean_seconds", "value": 0.5}, {"metric": "settled", "value": True}]
    store.seal(Result(item="timing/2x64", stage="timing", fields={"size": "2x64"}, rows=rows, made={}))
    value = store.table().column("value")
    assert value.type == pyarrow.float64(), "a yes or no is a number"
    assert value.to_pylist()[-2:] == [0.5, 1.0]
    table = store.table()
    assert not {"scores", "weights", "examples"} & set(types)
    assert table.num_rows == len(store.rows())


def test_a_copy_to_hand_on_is_the_study_without_paths(tmp_path: Path) -> None:
    workdir, copy = tmp_path / "study", tmp_path / "copy"
    store = trained(workdir, {"1x32": {"1/2": SMALL, "1": SMALL}}, gate=2.0)
    made = {"device": "1 core", "commit": "abc", "command": f"python {tmp_path}/x"}
    scores = pack_scores(np.array([0.5, 1.5]), np.ones(2))
    rows = [{"set": "s", "metric": "m", "value": 1.0}]
    item: Result = {"item": "a/b", "stage": "compress", "fields": {"bits": 4}, "rows": rows, "made": made}
    store.seal({**item, "examples": {"s": scores}})
    config = load_config("study_translation", StudyConfig)
    data = dataclasses.replace(config.train.data, dir=f"{tmp_path}/pairs", cache_dir=str(tmp_path))
    config = dataclasses.replace(config, train=dataclasses.replace(config.train, data=data))
    (workdir / STUDY).write_text(json_text(dataclasses.asdict(config)))
    report.main(["study", str(workdir), "--output", str(copy)])
    assert {path.name for path in copy.iterdir()} == {STUDY, "items.jsonl.gz"}
    lines = gzip.decompress((copy / "items.jsonl.gz").read_bytes()).decode()
    assert str(tmp_path) not in lines + (copy / STUDY).read_text()
    shared = ItemStore(copy)
    assert shared.rows() == store.rows()
    assert shared.result("a/b").get("examples") == {"s": scores}
    assert shared.result("a/b")["made"] == {"device": "1 core", "commit": "abc"}
    read = read_config(copy)
    assert read is not None
    assert read.train.data.dir == "pairs"
    assert not shared.seal(item), "it is finished"
    assert shared.seal({**item, "item": "new"})
    assert ItemStore(copy).finished() == store.finished() | {"new"}, "it grows"
    with pytest.raises(UserError, match="copy is not empty: give a new folder"):
        report.main(["study", str(workdir), "--output", str(copy)])
    for damaged in (lines.replace("abc", "abd"), "[" * 5000, "{}"):
        (copy / "items.jsonl.gz").write_bytes(gzip.compress(damaged.encode()))
        with pytest.raises(UserError, match=r"items\.jsonl\.gz is not the store that was written"):
            ItemStore(copy)
    (copy / "items.jsonl.gz").write_bytes(gzip.compress(lines.encode())[:-20])
    with pytest.raises(UserError, match="or a damaged one"):
        ItemStore(copy)


def test_a_study_of_data_without_a_folder_can_be_handed_on(tmp_path: Path) -> None:
    report.main(["study", str(QUICKSTART), "--output", str(tmp_path / "copy")])
    assert ItemStore(tmp_path / "copy").rows() == ItemStore(QUICKSTART).rows()
    assert read_config(tmp_path / "copy") == read_config(QUICKSTART)


def test_what_cannot_be_exported(store: ItemStore, tmp_path: Path) -> None:
    study = str(tmp_path / "study")
    for arguments, words in (
        ([str(tmp_path)], "holds no study: give the --workdir of one"),
        (
            [study, "--output", str(tmp_path / "rows.xlsx")],
            "rows.xlsx is neither a page nor a table: end it in .md, .parquet, .csv",
        ),
        ([study, "--output", study], "study is not empty: give a new folder"),
    ):
        with pytest.raises(UserError, match=words):
            report.main(["study", *arguments])
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / STUDY).write_text("{}")
    with pytest.raises(UserError, match="empty has no finished item yet"):
        report.main(["study", str(empty), "--output", str(tmp_path / "rows.csv")])


def test_a_page_has_every_number_of_the_tables_and_how_it_was_made(tmp_path: Path) -> None:
    trained(tmp_path / "study", {"1x32": {"1/2": SMALL, "1": SMALL}}, gate=2.0)
    models = {("1x32", 8, 9.0): (0.5, [0.625], [right(10)]), ("1x32", 4, 5.0): (0.4, [0.5], [right(8)])}
    store = compressed(tmp_path / "study", "accuracy", models, gate=("linear", 0.4))
    config = dataclasses.replace(load_config("study_translation:gpu", StudyConfig), sizes=("1x64",))
    (tmp_path / "study" / STUDY).write_text(json_text(dataclasses.asdict(config)), encoding="utf-8")
    output = tmp_path / "equal_time.md"
    report.main(["study", str(tmp_path / "study"), "--output", str(output)])
    text = output.read_text(encoding="utf-8")
    assert text.startswith("# Equal time\n")
    assert "![equal time](equal_time.png)" in text
    assert (tmp_path / "equal_time.png").read_bytes().startswith(b"\x89PNG")
    for row in store.rows(stage="compress", role="reported"):
        if row["metric"] == "accuracy":
            assert f"{row['value']:.4f}" in text
    widths = [line.count("|") for line in text.splitlines() if line.startswith("|")]
    assert min(widths) >= 3, "rows of tables end as they begin"
    assert "P-values" not in text, "no seed is compared with another"
    made = text.partition("## How it was made")[2]
    assert "tlc_jax.study --config study_translation:gpu --workdir W --sizes 1x64\n" in made


def test_a_page_says_what_its_p_values_are_corrected_for(tmp_path: Path) -> None:
    losses = {"1x32": {"1": [1.5, 1.51, 1.52]}, "2x64": {"1": [1.2, 1.21, 1.22]}}
    trained(tmp_path / "study", losses, gate=2.0)
    config = load_config("study_translation:gpu", StudyConfig)
    (tmp_path / "study" / STUDY).write_text(json_text(dataclasses.asdict(config)), encoding="utf-8")
    output = tmp_path / "page.md"
    report.main(["study", str(tmp_path / "study"), "--output", str(output)])
    text = output.read_text(encoding="utf-8")
    assert "resolved over seeds, p = " in text
    assert "P-values on this page are corrected (Holm) for the comparisons of their own part." in text
    assert "verdicts there may differ" in text
