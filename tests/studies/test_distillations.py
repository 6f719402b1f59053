"""Students of a study: what they need, how long they are trained, and that a study may grow by them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.builders import short_timings, write_corpus
from tests.studies.untrained import Folder
from tlc_jax import study
from tlc_jax.config import BudgetConfig, CheckpointConfig, Config, DistilConfig, ScheduleConfig, StudyConfig
from tlc_jax.core.errors import UserError
from tlc_jax.studies import timings
from tlc_jax.studies.dry_run import predict
from tlc_jax.studies.item_store import ItemStore
from tlc_jax.studies.items import items_of

TRUNK = Config(
    schedule=ScheduleConfig(follows="training_seconds", cooldown=0.0, warmup=0.05),
    budget=BudgetConfig(training_seconds=1000),
    checkpoint=CheckpointConfig(marks="1/4,1/2,1"),
    distil=DistilConfig(weight=0.25),
)
STUDY = StudyConfig(train=TRUNK, sizes=("1x64", "2x128"), seeds=(3, 4), bits=(32, 4), sparsities=(0.0,))
DISTILLED = "1x64-of-2x128-at-1-4/seed4/distilled"


def test_a_student_needs_its_teacher_and_is_trained_for_the_rest() -> None:
    config = replace(STUDY, distillations=("1x64:2x128@1/4",), counted_in="steps")
    items = {item.name: item for item in items_of(config)}
    before = {item.name: item for item in items_of(replace(STUDY, counted_in="steps"))}
    new = items.keys() - before.keys()
    per_seed = {DISTILLED, f"{DISTILLED}/32bits-0pruned", f"{DISTILLED}/4bits-0pruned"}
    assert new == {"timing/1x64-of-2x128", *per_seed, *(n.replace("seed4", "seed3") for n in per_seed)}
    student = items[DISTILLED]
    assert set(student.needs) == {*(name for name in items if name[:7] == "timing/"), "2x128/seed4/at-1-4"}
    assert items[f"{DISTILLED}/4bits-0pruned"].needs == (DISTILLED,)
    stages = {item.stage for item in items.values() if item.fields.get("teacher")}
    assert stages == {"timing", "distil", "compress_student"}, "no exhibit takes them for other models"
    run = timings.training_config(student, config)
    assert run.budget == BudgetConfig(training_seconds=750)
    assert (run.schedule.cooldown, run.schedule.warmup) == (0.2, pytest.approx(0.05 / 0.75))
    assert (run.model.num_layers, run.model.hidden_size, run.seed) == (1, 64, 4)
    assert (run.checkpoint.marks, run.distil) == ("", DistilConfig(weight=0.25))
    predicted = predict(config, ItemStore(Path("none")))
    assert (predicted["distil"].items, predicted["distil"].seconds) == (2, 2 * 750)
    assert predicted["compress_student"].items == 4


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"distillations": ("1x64",)}, "'1x64' is not STUDENT:TEACHER@MARK"),
        ({"distillations": ("1x64:2x128@1",)}, "leaves no time for the student"),
        ({"distillations": ("1x64:2x128@epoch1",)}, "leaves no time for the student"),
        ({"distillations": ("1x64:2x128@1/8",)}, "needs the size 2x128 among sizes and 1/8 among"),
        ({"distillations": ("1x64:3x128@1/4",)}, "needs the size 3x128 among sizes"),
        ({"distillations": ("1by64:2x128@1/4",)}, "'1by64' is not DEPTHxWIDTH"),
        ({"distillations": ("1x64:2x128@1/4",) * 2}, "distillations has a value twice"),
        ({"compressed_at": ("1/2",)}, "compared with runs of the same time"),
        ({"variants": ("batch_size=64",)}, "compared with runs of the same time"),
        ({"finetune": Config()}, "have teachers of their own"),
        ({"train": replace(TRUNK, distil=DistilConfig(teacher="x"))}, "have teachers of their own"),
    ],
)
def test_a_distillation_that_does_not_fit_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        replace(STUDY, **{"distillations": ("1x64:2x128@1/4",), **options})


def _document(folder: Folder) -> None:
    """A study of trunks that are not finetuned."""
    text = folder.document.read_text(encoding="utf-8")
    trunk = (
        'follows="training_seconds", cooldown=0.0, warmup=0.0), checkpoint=CheckpointConfig(marks="1/4,1")'
    )
    text = text.replace('follows="training_seconds")', trunk).replace("finetune=finetune,", "")
    text = text.replace("search=SearchConfig(seeds=(1, 2)),", "")
    folder.document.write_text(text, encoding="utf-8")


def test_a_study_grows_by_students_that_are_counted_with_their_teacher(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(
        updates: list[tuple[Config, Config | None]], console: object, **options: Any
    ) -> list[dict[str, Any]]:
        teachers = [teacher for _, teacher in updates]
        assert all(
            each is None or (each.model.num_layers, each.distil.teacher) == (2, None) for each in teachers
        )
        seconds = [0.01 if teacher is None else 0.025 for teacher in teachers]
        return [{"mean_seconds": each, "turn_seconds": [each, each], "steps": 100} for each in seconds]

    monkeypatch.setattr(timings, "measure_in_turns", measure)
    monkeypatch.setattr(timings, "program_of", lambda *configs: f"of {len(configs)}")
    _document(folder)
    counted = ("--counted-in", "steps", "--train.distil.temperature", "2")
    folder.go("", *counted)
    before = folder.files()
    name = "1x16-of-2x16-at-1-4/seed0/distilled"
    assert folder.go("", *counted, "--distillations", "1x16:2x16@1/4") == [name]
    assert {path: content for path, content in folder.files().items() if path in before} == before
    run = folder.configs[name]
    assert run.budget == BudgetConfig(steps=30), "0.75 s, of 0.025 s each"
    assert run.distil == DistilConfig(teacher=str(folder.workdir / "runs/2x16/seed0/at-1-4"), temperature=2.0)
    [last] = [row for row in folder.store.rows(item=name, last=True) if row["metric"] == "nats_per_byte"]
    [teacher] = {row["training_seconds"] for row in folder.store.rows(item="2x16/seed0/at-1-4", last=True)}
    assert last["training_seconds"] == pytest.approx(0.75)
    assert last["teacher_seconds"] == teacher
    assert len(folder.store.rows(stage="compress_student")) == 4 * 2, "compressions, sets"
    assert folder.resume() == []
    with pytest.raises(UserError, match=r"train\.distil\.temperature is 1\.0 but the study has 2\.0"):
        folder.go("", "--counted-in", "steps")


CONFIG = """
from tlc_jax.config import *

def get_config():
    return StudyConfig(
        train=Config(
            model=ModelConfig(head_size=8, vocab_size=300, max_positions=32),
            data=DataConfig(dir={corpus!r}, sequence_length=32, held_out=0.1, cache_dir={cache!r}),
            schedule=ScheduleConfig(follows="training_seconds", cooldown=0.0, warmup=0.0),
            budget=BudgetConfig(training_seconds=0.5),
            checkpoint=CheckpointConfig(marks="1/2,1"),
            batch_size=16,
            log_every=4,
        ),
        sizes=("1x16", "2x16"), distillations=("1x16:2x16@1/2",), bits=(4,), sparsities=(0.0,),
        counted_in="steps",
    )
"""


@pytest.mark.slow
def test_a_student_of_a_study_learns_from_the_run_that_is_its_teacher(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short_timings(monkeypatch)
    corpus = write_corpus(_made(tmp_path / "text"))
    document = tmp_path / "tiny.py"
    document.write_text(CONFIG.format(corpus=str(corpus), cache=str(tmp_path / "cache")))
    study.main(["--config", str(document), "--workdir", str(tmp_path / "w")])
    store = ItemStore(tmp_path / "w")
    name = "1x16-of-2x16-at-1-2/seed0/distilled"
    metrics = (tmp_path / "w" / "runs" / name / "metrics.jsonl").read_text()
    assert "train/distil_loss" in metrics
    assert {row["set"] for row in store.rows(stage="compress_student")} == {"held_out"}
    times = {row["item"]: row["value"] for row in store.rows(stage="timing", metric="mean_seconds")}
    last = store.rows(item=name, last=True)[0]
    assert last["training_seconds"] == pytest.approx(last["step"] * times["timing/1x16-of-2x16"])
    rounding = times["timing/1x16-of-2x16"] + times["timing/2x16"]  # of both to whole updates
    assert last["training_seconds"] + last["teacher_seconds"] == pytest.approx(0.5, abs=rounding)


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder
