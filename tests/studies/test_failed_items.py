"""A training that diverges: its item fails, with those that need it, and the study goes on without them."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.studies.stores import SMALL, trained
from tests.studies.untrained import COMBINATION, FIRST, SECOND, Folder
from tlc_jax import report
from tlc_jax.config.study_options import StudyConfig
from tlc_jax.core.errors import UserError
from tlc_jax.storage.run_directory import json_text
from tlc_jax.studies import train_item
from tlc_jax.studies.failed_items import failed, failures
from tlc_jax.studies.item_store import Failure
from tlc_jax.studies.items import Item
from tlc_jax.training.skipped import SkippedSteps


def diverge(folder: Folder, monkeypatch: pytest.MonkeyPatch, *runs: str, message: str = "") -> None:
    """Runs of which a part of the name is given end as training ends where too many steps are skipped."""

    def train_run(config: Any, workdir: Path, *arguments: Any, title: str) -> None:
        folder.train_run(config, workdir, *arguments, title=title)
        if any(run in title for run in runs):
            if message:
                raise UserError(message)
            SkippedSteps(limit=1).add(7, {"skipped_steps": 1.0})  # type: ignore[dict-item]

    monkeypatch.setattr(train_item, "train_run", train_run)


def stages(folder: Folder, *, failed: bool) -> Counter[str]:
    return Counter(result["stage"] for result in folder.store.results() if ("failed" in result) == failed)


def test_a_training_that_diverges_takes_along_what_needs_it_and_nothing_else(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    diverge(folder, monkeypatch, f"{FIRST}trained")
    folder.go()
    assert stages(folder, failed=True) == {"train": 1, "finetune": 2, "compress": 8}
    assert stages(folder, failed=False) == {"train": 1, "finetune": 2, "compress": 8}
    assert {row["size"] for row in folder.store.rows()} == {"2x16"}, "none of its numbers is shown"
    assert f"{FIRST}lr" not in " ".join(folder.trained), "what cannot begin is not begun"
    reason = "loss or gradient was not finite in 1 steps in a row, from the batch of step 7 on"
    printed = " ".join(capsys.readouterr().out.split())
    assert f"{FIRST}trained has failed: {reason}; the study continues without it" in printed
    assert f"Left out is {FIRST}trained, with 10 items that need it: {reason}. Lower its learning" in printed
    assert folder.resume() == []
    assert "22 of 22 items are finished, of which 11 failed" in capsys.readouterr().out
    folder.go("", "--dry-run")
    printed = capsys.readouterr().out.replace(" ", "").replace("\n", "")
    assert "trainings│2│2,1failed│" in printed
    assert "compressedmodels│16│16,8failed│" in printed
    assert f"Leftoutis{FIRST}trained" in printed


def test_of_a_search_of_which_a_rate_diverges_the_best_other_is_chosen(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """One seed that diverges is enough: means over other seeds are not compared with those over all."""
    rates = {"0.001": (), "0.002": ("seed1",), "0.003": ("seed1", "seed2"), "0.004": ()}
    runs = [f"{FIRST}lr{rate}-batch16-dropout0.1-{seed}" for rate, seeds in rates.items() for seed in seeds]

    def train_run(config: Any, workdir: Path, *arguments: Any, title: str) -> None:
        """The higher the rate, the better."""
        folder.train_run(config, workdir, *arguments, title=title)
        if "/lr" in title:
            values = {"accuracy": 100 * config.optimizer.learning_rate, "loss": 1.0}
            line = {"step": 4, "training_seconds": 1.0, "total_seconds": 1.0}
            line |= {f"eval/tuning/{name}": value for name, value in values.items()}
            (workdir / "metrics.jsonl").write_text(f"{json.dumps(line)}\n")
        if title in runs:
            SkippedSteps(limit=1).add(7, {"skipped_steps": 1.0})  # type: ignore[dict-item]

    monkeypatch.setattr(train_item, "train_run", train_run)
    options = ["--sizes", "1x16", "--bits", "4", "--sparsities", "0", "--search.learning-rates"]
    folder.go("", *options, "0.001", "0.002", "0.003")
    compressed = {(row["combination"], row["finetuning_seed"]) for row in folder.store.rows(stage="compress")}
    assert compressed == {("lr0.001-batch16-dropout0.1", seed) for seed in (1, 2)}
    assert stages(folder, failed=True) == {"finetune": 3, "compress": 3}, "each with its own models"
    assert len(failures(folder.store)) == 3


def test_other_seeds_of_the_only_combination_are_compressed(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    diverge(folder, monkeypatch, f"{SECOND}{COMBINATION}-seed1")
    folder.go()
    seeds = {(row["size"], row["finetuning_seed"]) for row in folder.store.rows(stage="compress")}
    assert seeds == {("1x16", 1), ("1x16", 2), ("2x16", 2)}


def test_a_last_evaluation_that_is_not_finite_fails(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a run that ended before too many updates were skipped."""

    def train_run(config: Any, workdir: Path, *arguments: Any, title: str) -> None:
        folder.train_run(config, workdir, *arguments, title=title)
        if title == f"{FIRST}trained":
            path = workdir / "metrics.jsonl"
            lines = [json.loads(line) for line in path.read_text().splitlines()]
            lines[-1]["eval/held_out/nats_per_byte"] = float("nan")
            path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))

    monkeypatch.setattr(train_item, "train_run", train_run)
    folder.go()
    result = folder.store.result(f"{FIRST}trained")
    assert result["rows"] == []
    assert result.get("failed") == Failure(
        item=f"{FIRST}trained", reason="its nats_per_byte on held_out is nan"
    )
    assert stages(folder, failed=False) == {"train": 1, "finetune": 2, "compress": 8}


def test_wrong_input_still_ends_the_study(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    diverge(folder, monkeypatch, f"{FIRST}trained", message="the data are missing: restore them")
    with pytest.raises(UserError, match="the data are missing"):
        folder.go()
    assert not folder.store.finished()


def test_a_page_says_what_is_left_out(tmp_path: Path) -> None:
    store = trained(tmp_path / "study", {"1x32": {"1/2": SMALL, "1": SMALL}, "2x64": {"1": SMALL}})
    config = json_text(dataclasses.asdict(StudyConfig()))
    (tmp_path / "study" / "study.json").write_text(config, encoding="utf-8")
    reason = Failure(item="2x64/seed0/trained", reason="its loss on held_out is inf")
    fields = {"size": "2x64", "variant": "", "seed": 0, "mark": ""}
    trunk = Item("2x64/seed0/trained", "train", fields)
    for item in (trunk, dataclasses.replace(trunk, name="2x64/seed0/at-1-2", stage="branch")):
        store.seal(failed(item, reason))
    report.main(["study", str(tmp_path / "study"), "--output", str(tmp_path / "page.md")])
    page = (tmp_path / "page.md").read_text()
    assert "* Left out is 2x64/seed0/trained, with 1 item that needs it: its loss on held_out is inf." in page
    assert "| of which failed | 1 branch, 1 train |" in page
