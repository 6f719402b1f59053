"""The page of studies beside published models, of stores that are made by hand."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from tests.studies.compressed_stores import Way, compressed_in_ways
from tlc_jax import report
from tlc_jax.config.study_options import StudyConfig
from tlc_jax.core.config_document import load_config
from tlc_jax.core.errors import UserError
from tlc_jax.storage.run_directory import STUDY, json_text
from tlc_jax.studies.item_store import ItemStore
from tlc_jax.studies.published_frontier import frontier_rows
from tlc_jax.studies.published_models import PUBLISHED, TASKS

WAYS = {
    Way("6x384", 8): ([0.91, 0.90, 0.92], 0.91, 23e6),
    Way("6x384", 4): ([0.89, 0.88, 0.90], 0.90, 12e6),
    Way("6x384", 4, 0.6): ([0.95, 0.95, 0.95], 0.80, 11.9e6),  # best where nothing is chosen
    Way("6x384", 3): ([0.80, 0.81, 0.82], 0.79, 12.5e6),  # larger and worse
}


def _store(folder: Path, document: str = "study_minilm") -> ItemStore:
    """A study of its document whose reported set is the validation set."""
    values = {way: values for way, (values, _, _) in WAYS.items()}
    tuning = {way: value for way, (_, value, _) in WAYS.items()}
    sizes = {way: size for way, (_, _, size) in WAYS.items()}
    made = compressed_in_ways(folder / "x", values, metric="accuracy", tuning=tuning, file_bytes=sizes)
    store = ItemStore(folder)
    for result in made.results():
        rows = [
            {**row, "set": "validation" if row["set"] == "test" else row["set"]} for row in result["rows"]
        ]
        store.seal({**result, "rows": rows})
    config = load_config(document, StudyConfig)
    (folder / STUDY).write_text(json_text(dataclasses.asdict(config)), encoding="utf-8")
    return store


def test_models_are_chosen_on_the_tuning_set(tmp_path: Path) -> None:
    rows = frontier_rows(_store(tmp_path / "s"), "glue/sst2", "s")
    found = [(round(row["megabytes"], 1), round(row["percent"], 6)) for row in rows]
    assert found == [(11.9, 95.0), (12.0, 89.0), (23.0, 91.0)]
    assert rows[1]["interval"] == pytest.approx((89 - 4.302653 / 3**0.5, 89 + 4.302653 / 3**0.5), abs=1e-4)


def test_the_page_has_every_published_model_of_each_task_and_says_of_what_its_numbers_are(
    tmp_path: Path,
) -> None:
    _store(tmp_path / "mine")
    report.main(["frontier", str(tmp_path / "mine"), "--output", str(tmp_path / "frontier.md")])
    page = (tmp_path / "frontier.md").read_text(encoding="utf-8")
    sst2, mnli = page.partition("## SST-2")[2].split("## MNLI matched")
    for each in PUBLISHED:
        assert (f"| {each.model} |" in sst2) == (each.sst2 is not None)
        assert (f"| {each.model} |" in mnli.partition("## How")[0]) == (each.mnli is not None)
    assert "|  | 12 | **mine: 6x384 at 4 bits** | 89.0 [86.5, 91.5] | development | file | 3 seeds |" in sst2
    assert "mine: " not in mnli.partition("## How")[0]
    assert "| 18 | 58 | TinyBERT4 | 92.6 | test | float32 | Jiao et al. 2020 |" in sst2
    megabytes = [float(line.split("|")[2]) for line in sst2.splitlines()[4:] if line]
    assert megabytes == sorted(megabytes)
    assert (tmp_path / "frontier.png").stat().st_size > 10_000
    assert "python -m tlc_jax.study --config study_minilm --workdir W" in page


def test_every_published_model_has_an_accuracy() -> None:
    assert all(any(each.on(task) for task in TASKS) for each in PUBLISHED)
    assert len({each.model for each in PUBLISHED}) == len(PUBLISHED)


def test_a_study_of_another_task_is_refused_by_name(tmp_path: Path) -> None:
    _store(tmp_path / "mine", "study_translation")
    with pytest.raises(UserError, match=r"mine is a study of no labelled data, and published models are of"):
        report.main(["frontier", str(tmp_path / "mine"), "--output", str(tmp_path / "frontier.md")])
    with pytest.raises(UserError, match="nothing holds no study"):
        report.main(["frontier", str(tmp_path / "nothing"), "--output", str(tmp_path / "frontier.md")])
    with pytest.raises(UserError, match="is no page"):
        report.main(["frontier", str(tmp_path / "mine"), "--output", str(tmp_path / "frontier.html")])
