"""Studies whose runs have as many updates or the same loss in common, in place of their training time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.studies import stores
from tlc_jax.config import BudgetConfig, CheckpointConfig, Config, EvaluationConfig, ScheduleConfig
from tlc_jax.config.study_options import StudyConfig
from tlc_jax.studies.dry_run import predict
from tlc_jax.studies.exhibits import equal_time
from tlc_jax.studies.item_store import ItemStore, Result
from tlc_jax.studies.items import items_of

UPDATES = Config(budget=BudgetConfig(steps=3000))
LOSS = replace(UPDATES, evaluation=EvaluationConfig(every_steps=100, stop_at=1.25))
SECONDS = StudyConfig().train
TRUNK = ScheduleConfig(warmup=0.0, cooldown=0.0)
MARKS = CheckpointConfig(marks="1/2,1")


@pytest.mark.parametrize(
    ("train", "equal"),
    [
        (SECONDS, {}),
        (replace(SECONDS, budget=BudgetConfig(training_seconds=60, steps=10)), {}),
        (UPDATES, {"equal": "updates"}),
        (replace(UPDATES, schedule=TRUNK, checkpoint=MARKS), {"equal": "updates"}),
        (LOSS, {"equal": "loss", "target": 1.25}),
        (replace(SECONDS, evaluation=LOSS.evaluation), {"equal": "loss", "target": 1.25}),
    ],
)
def test_results_say_what_is_equal(train: Config, equal: dict[str, Any]) -> None:
    items = items_of(StudyConfig(train=train, sizes=("1x64", "2x64")))
    columns = ("equal", "target")
    assert items
    assert all(
        {name: item.fields[name] for name in columns if name in item.fields} == equal for item in items
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"train": Config(budget=BudgetConfig(tokens=9), schedule=ScheduleConfig(follows="tokens"))},
            "or, w",
        ),
        ({"train": UPDATES, "counted_in": "steps"}, "counted_in steps turns seconds into updates"),
        ({"train": replace(LOSS, schedule=TRUNK, checkpoint=MARKS)}, "give one of them"),
        (
            {"train": replace(LOSS, evaluation=EvaluationConfig(every_steps=None, stop_at=1.0))},
            "set train.ev",
        ),
        ({"variants": ("evaluation.stop_at=1.0",)}, "variants: evaluation.stop_at is what all runs"),
    ],
)
def test_what_cannot_be_equal(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        StudyConfig(**options)


def test_runs_of_equal_loss_are_no_comparison_at_equal_time(tmp_path: Path) -> None:
    timed = stores.trained(tmp_path / "time", {"1x32": {"1": stores.SMALL}, "2x64": {"1": stores.LARGE}})
    assert equal_time.measurements(timed)
    store = ItemStore(tmp_path / "loss")
    for result in timed.results():
        store.seal(Result(**{**result, "fields": {**result["fields"], "equal": "loss", "target": 1.5}}))
    assert not equal_time.measurements(store)


def test_runs_of_equal_updates_are_predicted_from_those_that_are_finished(tmp_path: Path) -> None:
    train = replace(UPDATES, schedule=TRUNK, checkpoint=MARKS)
    config = StudyConfig(train=train, sizes=("1x64", "2x64"), seeds=(1, 2))
    store = ItemStore(tmp_path)
    assert predict(config, store)["train"].seconds is None
    for size, seconds in (("1x64", 80.0), ("2x64", 240.0)):
        row = {"set": "x", "metric": "loss", "value": 1.0, "last": True, "training_seconds": seconds}
        fields = {"size": size, "variant": "", "seed": 1, "mark": "", "equal": "updates"}
        name = f"{size}/seed1/trained"
        store.seal(Result(item=name, stage="train", fields=fields, rows=[row], made={}))
    stages = predict(config, store)
    assert stages["train"].seconds == 80 + 240, "a trunk ends at 0.8 of the budget"
    assert stages["branch"].seconds == pytest.approx(2 * (1 / 2 + 1) * 0.2 * (100 + 300))
