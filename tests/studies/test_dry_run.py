"""What a study would do: items, time and disk, without doing anything."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import jax
import pytest

from tests.studies.untrained import COMBINATION, FIRST, SECOND, Folder
from tlc_jax.config import CheckpointConfig, ClassificationConfig, Config, ModelConfig
from tlc_jax.config.study_options import SearchConfig, StudyConfig
from tlc_jax.core import tree
from tlc_jax.core.errors import UserError
from tlc_jax.models.encoder import init_mlm
from tlc_jax.studies.dry_run import Prediction, predict
from tlc_jax.studies.item_store import ItemStore
from tlc_jax.studies.study_record import read_config


def test_nothing_is_done_and_what_is_finished_is_counted(
    folder: Folder, capsys: pytest.CaptureFixture
) -> None:
    assert folder.go("", "--dry-run") == []
    assert not folder.workdir.exists()
    printed = capsys.readouterr().out
    assert "trainings │ 2 │ 0 │ 2 s".replace(" ", "") in printed.replace(" ", "")
    assert "finetunings │ 4 │ 0 │ not known yet".replace(" ", "") in printed.replace(" ", "")
    assert "at least 2 s of training in one process" in printed
    folder.go(f"{SECOND}lr")
    before = {path: path.read_bytes() for path in folder.workdir.rglob("*") if path.is_file()}
    capsys.readouterr()
    folder.go("", "--dry-run", "--bits", "8")
    printed = capsys.readouterr().out.replace(" ", "")
    assert "trainings│2│2││" in printed
    assert "finetunings│4│2│notknownyet" in printed, "those of the second size are not measured"
    assert "compressedmodels│24│8││" in printed
    assert {path: path.read_bytes() for path in folder.workdir.rglob("*") if path.is_file()} == before
    with pytest.raises(UserError, match="another config: train.seed is 3"):
        folder.go("", "--dry-run", "--train.seed", "3")


def test_finetunings_are_predicted_from_those_that_are_finished(folder: Folder) -> None:
    folder.go(f"{SECOND}{COMBINATION}-seed2")
    config = read_config(folder.workdir)
    assert config is not None
    stages = predict(config, folder.store)
    assert stages["finetune"].finished == 3
    assert stages["finetune"].seconds == 1.0, "as long as the other seed of the second size"
    assert folder.store.has(f"{FIRST}{COMBINATION}-seed1")


def test_time_and_disk_of_trunks_and_branches(tmp_path: Path) -> None:
    base = StudyConfig().train
    train = replace(
        base,
        model=ModelConfig(head_size=32, vocab_size=300, max_positions=128),
        schedule=replace(base.schedule, cooldown=0.0, warmup=0.0),
        checkpoint=CheckpointConfig(marks="1/4,1", every_steps=None),
        budget=replace(base.budget, training_seconds=1000.0),
    )
    budget = replace(base.budget, training_seconds=50.0)
    finetune = Config(task=ClassificationConfig(), schedule=base.schedule, budget=budget)
    config = StudyConfig(
        train=train,
        finetune=finetune,
        search=SearchConfig(seeds=(1, 2, 3)),
        sizes=("1x32", "2x64"),
        seeds=(0, 1),
        counted_in="steps",
    )
    state = {}
    for layers, width in ((1, 32), (2, 64)):
        model = replace(train.model, num_layers=layers, hidden_size=width)
        params = jax.eval_shape(lambda key, model=model: init_mlm(model, key), jax.random.key(0))
        state[width] = 3 * 4 * tree.count(params)
    both = state[32] + state[64]
    stages = predict(config, ItemStore(tmp_path))
    assert stages["timing"] == Prediction(2, 0, 0.0, 0.0)
    # a trunk ends where the branch to its mark 1 leaves it; it keeps its end, and until its branches are
    # finished its marks and two branch points
    assert stages["train"] == Prediction(4, 0, 4 * 800.0, 2 * 1 * both, 4 * state[64])
    assert stages["branch"] == Prediction(8, 0, 4 * 0.2 * (250 + 1000), 2 * 2 * both)
    assert (stages["finetune"].items, stages["finetune"].seconds) == (12, 12 * 50.0)
    assert stages["compress"] == Prediction(12 * 20, 0, 0.0, 0.0)


def test_of_a_search_the_disk_is_that_of_one_combination_and_meanwhile_of_one_more(tmp_path: Path) -> None:
    base = StudyConfig().train
    model = ModelConfig(head_size=32, vocab_size=300, max_positions=128)
    finetune = Config(task=ClassificationConfig(), checkpoint=CheckpointConfig(every_steps=10, keep=2))
    search = SearchConfig(learning_rates=(1e-4, 1e-3, 1e-2), dropouts=(0.0, 0.1), seeds=(1, 2, 3))
    config = StudyConfig(
        train=replace(base, model=model), finetune=finetune, search=search, sizes=("1x32",), seeds=(0, 1)
    )
    one = replace(config, search=SearchConfig(seeds=(1,)))
    checkpoints = predict(one, ItemStore(tmp_path))["finetune"].bytes / 2
    assert checkpoints > 2 * 12 * 300 * 32, "two checkpoints, more than their embeddings"
    stages = predict(config, ItemStore(tmp_path))
    assert stages["finetune"].items == 2 * 3 * 2 * 3
    assert stages["compress"].items == 2 * 3 * len([*config.compressions()]), (
        "of the combination that is chosen"
    )
    assert stages["finetune"].bytes == 2 * 3 * checkpoints
    assert stages["finetune"].meanwhile == 3 * checkpoints
    assert predict(one, ItemStore(tmp_path))["finetune"].meanwhile == 0


def test_a_finetuning_that_no_size_fits_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    base = StudyConfig().train
    data = replace(base.data, sequence_length=32)
    train = replace(base, model=ModelConfig(max_positions=32), data=data)
    finetune = Config(task=ClassificationConfig())
    config = StudyConfig(train=train, finetune=finetune, sizes=("1x64",))
    with pytest.raises(UserError, match="finetune does not go with 1x64: data.sequence_length 128 is longer"):
        predict(config, ItemStore(tmp_path))
