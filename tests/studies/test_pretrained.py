"""Studies of given checkpoints: they are finetuned and compressed in place of sizes that the study trains."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.builders import write_tables
from tests.pretrained_folders import BERT, drawn, write_bert
from tests.studies.untrained import Folder
from tlc_jax import report, study
from tlc_jax.config import ClassificationConfig, Config, ModelConfig
from tlc_jax.config.given_checkpoints import parse_given
from tlc_jax.config.study_options import StudyConfig
from tlc_jax.core import config_document
from tlc_jax.core.config_document import load_config
from tlc_jax.core.errors import UserError
from tlc_jax.models.encoder import init_mlm
from tlc_jax.studies import compress_item
from tlc_jax.studies.exhibits.equal_bytes import EQUAL_BYTES
from tlc_jax.studies.item_store import ItemStore
from tlc_jax.studies.ledger import entries_of
from tlc_jax.studies.study_command import study_command
from tlc_jax.studies.study_record import read_config

COMBINATION = "lr0.0015-batch16-dropout0.1"
RUNS = [f"2x16/{COMBINATION}-seed1", f"2x16/{COMBINATION}-seed2"]


def write(folder: Path, seed: int = 0, model: ModelConfig = BERT) -> Path:
    return write_bert(folder, drawn(lambda key: init_mlm(model, key), seed), model=model)


@pytest.fixture
def given(folder: Folder) -> Folder:
    """A study of one checkpoint, of two layers of 16, that keeps the best evaluations."""
    write(folder.root / "bert")
    text = folder.document.read_text(encoding="utf-8")
    text = text.replace("train=train,", f"pretrained=({f'hf:{folder.root}/bert'!r},),")
    text = text.replace('sizes=("1x16", "2x16"),', "sizes=(),")
    text = text.replace("budget=BudgetConfig(steps=4),", "budget=BudgetConfig(steps=4), checkpoint=BEST,")
    text = text.replace("def get_config", "BEST = CheckpointConfig(best=True)\n\ndef get_config")
    folder.document.write_text(text, encoding="utf-8")
    return folder


def test_nothing_but_finetunings_is_trained(given: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    assert given.go() == RUNS
    assert given.configs[RUNS[0]].model == BERT
    assert given.measured == [(32, 0.0), (4, 0.0), (32, 0.5), (4, 0.5)] * 2
    [checkpoint] = given.store.rows(stage="pretrained")
    assert (checkpoint["size"], checkpoint["checkpoint_name"]) == ("2x16", "hf:bert")
    compressed = given.store.rows(stage="compress")
    assert {row["checkpoint"] for row in compressed} == {checkpoint["checkpoint"]}
    assert {row["seed"] for row in compressed} == {1, 2}, "of its finetunings, which are the trainings here"
    assert {*given.store.result(f"{RUNS[0]}/4bits-50pruned").get("data", {})} == {"finetune"}
    assert given.go() == given.resume() == []
    said = capsys.readouterr().out
    assert "equal time" not in said
    assert not entries_of(given.store, "study"), "claims are about sizes that were trained alike"
    assert EQUAL_BYTES.rows(given.store)


def test_the_best_evaluation_is_kept_and_compressed(given: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[str] = []
    monkeypatch.setattr(compress_item, "load_model", lambda reference, **_: loaded.append(reference))
    given.go()
    assert loaded == [f"{given.workdir}/runs/{run}@best" for run in RUNS]
    for run in RUNS:
        rows = [row for row in given.store.result(run)["rows"] if row["metric"] == "accuracy"]
        assert [(row["step"], row["value"], row["last"]) for row in rows] == [
            (2, 0.75, True),
            (4, 0.625, False),
        ]


def test_another_checkpoint_under_the_same_name_is_refused(given: Folder) -> None:
    assert given.go(RUNS[1]) == RUNS[:1]
    shutil.rmtree(given.root / "bert")
    write(given.root / "bert", seed=1)
    words = r"bert is not the checkpoint 2x16 with which the study began: the fingerprint of its weights is"
    with pytest.raises(UserError, match=words):
        given.go()
    with pytest.raises(UserError, match=words):
        given.resume()
    assert not given.trained


def test_the_checkpoint_may_move(given: Folder) -> None:
    assert given.go(RUNS[1]) == RUNS[:1]
    (given.root / "bert").rename(given.root / "moved")
    assert given.go("", "--pretrained", f"hf:{given.root}/moved") == RUNS[1:]
    config = read_config(given.workdir)
    assert config is not None
    assert [(each.size, each.name) for each in config.given] == [("2x16", "hf:moved")]


def test_a_study_grows_by_a_checkpoint_of_the_same_shape(
    given: Folder, capsys: pytest.CaptureFixture
) -> None:
    given.go()
    shutil.copytree(given.root / "bert", given.root / "copy")
    write(given.root / "other one", seed=1)
    write(given.root / "small", model=dataclasses.replace(BERT, num_layers=1))
    more = [f"hf:{given.root}/{name}" for name in ("other one", "small")]
    trained = given.go("", "--pretrained", *more)
    names = ("2x16-other_one", "1x16")
    assert trained == [f"{name}/{COMBINATION}-seed{seed}" for name in names for seed in (1, 2)]
    capsys.readouterr()
    given.go("", "--pretrained", f"hf:{given.root}/bert", "--dry-run")
    assert "checkpoints that are given │     3 │        3" in capsys.readouterr().out
    with pytest.raises(UserError, match="copy and .*bert are the same weights: give them once"):
        given.go("", "--pretrained", f"hf:{given.root}/bert", f"hf:{given.root}/copy")


def test_one_tokenizer(given: Folder) -> None:
    path = write(given.root / "other", seed=1) / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    tokenizer["normalizer"]["lowercase"] = False
    path.write_text(json.dumps(tokenizer))
    with pytest.raises(
        UserError, match="bert, .*other do not have one tokenizer: give checkpoints of different"
    ):
        given.go("", "--pretrained", *(f"hf:{given.root}/{name}" for name in ("bert", "other")))


def test_what_is_left_is_predicted(given: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    given.go("", "--dry-run")
    said = capsys.readouterr().out
    assert "checkpoints that are given │     1 │        0" in said
    assert "finetunings                │     2 │        0 │      not known yet" in said
    assert not given.workdir.exists()
    given.go(RUNS[1])
    capsys.readouterr()
    given.resume("--dry-run")
    assert "finetunings                │     2 │        1 │                1 s" in capsys.readouterr().out


def test_what_is_handed_on_names_no_folder(given: Folder) -> None:
    given.go()
    report.main(["study", str(given.workdir), "--output", str(given.root / "copy")])
    config = read_config(given.root / "copy")
    assert config is not None
    assert [each.name for each in config.given] == ["hf:bert"]
    assert str(given.root) not in (given.root / "copy" / "study.json").read_text()
    command = study_command(config)
    assert str(given.root) not in command
    assert "--config study_minilm " in command
    assert "--pretrained hf:bert" in command
    assert "--train." not in command, "nothing of it is used"
    assert len(list(ItemStore(given.root / "copy").results())) == len(given.files())


def test_each_folder_has_documents_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A document of the same name that was read before from another folder is another one."""
    config = load_config("study_minilm", StudyConfig)
    ours = config_document.config_folder()
    text = (ours / "quickstart_study.py").read_text(encoding="utf-8")
    (tmp_path / "study_minilm.py").write_text(text, encoding="utf-8")
    monkeypatch.setattr(config_document, "config_folder", lambda: tmp_path)
    assert study_command(config).startswith("python -m tlc_jax.study --config study_minilm --workdir W --")
    monkeypatch.setattr(config_document, "config_folder", lambda: ours)
    assert study_command(config) == "python -m tlc_jax.study --config study_minilm --workdir W"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sizes": ("1x16",)}, "pretrained takes the place of sizes, which are 1x16: give sizes no value"),
        ({"finetune": None}, "pretrained checkpoints are finetuned: give finetune"),
        ({"seeds": (1, 2)}, "pretrained checkpoints are not trained, but seeds would say how"),
        ({"variants": ("batch_size=8",)}, "but variants would say how"),
        ({"pretrained": ("",)}, "pretrained has an empty value"),
        ({"pretrained": ()}, "sizes has no value: give one at least, or pretrained"),
    ],
)
def test_what_does_not_go_together(options: dict[str, Any], words: str) -> None:
    finetune = Config(task=ClassificationConfig())
    with pytest.raises(ValueError, match=words):
        StudyConfig(**{"pretrained": ("hf:a",), "sizes": (), "finetune": finetune, **options})


def test_a_checkpoint_that_has_been_read_is_recorded_as_one_word() -> None:
    mark = "0f" * 32
    for reference in ("hf:/some/folder", "gs://bucket/run@best", "runs/a=b"):
        each = parse_given(reference)
        assert (each.reference, each.size) == (reference, "")
        read = dataclasses.replace(each, size="6x384-small.en", fingerprint=mark)
        assert parse_given(str(read)) == read


def test_a_folder_that_is_none_is_named(given: Folder) -> None:
    with pytest.raises(UserError, match="nothing is not a folder with a model of transformers"):
        given.go("", "--pretrained", f"hf:{given.root}/nothing")


@pytest.mark.slow
def test_a_checkpoint_is_finetuned_compressed_and_recovered(tmp_path: Path, cache_dir: Path) -> None:
    """With real updates: what is compressed is the best evaluation, and rounds of pruning begin from it."""
    write(tmp_path / "bert")
    write_tables(tmp_path / "tables", 120)
    names = {"tables": str(tmp_path / "tables"), "cache": str(cache_dir), "bert": f"hf:{tmp_path / 'bert'}"}
    (tmp_path / "tiny.py").write_text(TINY.format(**names), encoding="utf-8")
    study.main(["--config", str(tmp_path / "tiny.py"), "--workdir", str(tmp_path / "study")])
    store = ItemStore(tmp_path / "study")
    finetuned = {row["item"]: row for row in store.rows(stage="finetune", metric="accuracy", last=True)}
    assert len(finetuned) == 2
    for name, best in finetuned.items():
        values = [row["value"] for row in store.result(name)["rows"] if row["metric"] == "accuracy"]
        assert best["value"] == max(values)
        whole = store.result(f"{name}/32bits-0pruned")["rows"]
        [same] = [row for row in whole if row.get("role") == "tuning" and row["metric"] == "accuracy"]
        assert (same["value"], same["step"]) == (best["value"], best["step"])
        assert store.has(f"{name}-rounds/pruned-50/4bits-50pruned")
    page = (tmp_path / "study" / "study.html").read_text(encoding="utf-8")
    assert "finetune 2x16 and" in page
    assert "equal time" not in page
    assert "2x16 is hf:bert" in page


TINY = """
from tlc_jax.config import *
from tlc_jax.config.study_options import SearchConfig, StudyConfig

def get_config():
    finetune = Config(
        task=ClassificationConfig(),
        model=ModelConfig(remat="none"),
        data=DataConfig(dir={tables!r}, sequence_length=32, held_out=0.2, cache_dir={cache!r}),
        budget=BudgetConfig(steps=6),
        evaluation=EvaluationConfig(every_steps=2),
        checkpoint=CheckpointConfig(every_steps=None, best=True),
        batch_size=16,
    )
    return StudyConfig(
        pretrained=({bert!r},),
        sizes=(),
        finetune=finetune,
        search=SearchConfig(seeds=(1, 2)),
        bits=(32, 4),
        sparsities=(0.0, 0.5),
        recovery=RecoveryConfig(levels=(0.5,), max_epochs=1.0, control=True),
    )
"""
