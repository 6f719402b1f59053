"""Fields with a new name, and fields that older runs do not have: in command lines, documents and run
directories."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.golden.make_d21cde9 import FOLDER
from tlc_jax.config import (
    FREE_ON_RESUME,
    CompressConfig,
    Config,
    EvaluationConfig,
    RecoveryConfig,
    StudyConfig,
    renamed,
)
from tlc_jax.config.saved import config_from_json, digest
from tlc_jax.core import cli
from tlc_jax.core.config_document import load_config
from tlc_jax.core.errors import UserError
from tlc_jax.storage.run_directory import RunDir, write_json
from tlc_jax.study import Study
from tlc_jax.train import Train
from tlc_jax.training.schedule import controls

DIGESTS = {  # computed by commit d21cde9 from its own config.json
    "encoder": "ae4bc4dc5167c9fe392c79db5ff6cdbf5e1264b9236ddbf2da13c7e062788310",
    "translation": "343ba3c4556a86729b675e263ab1e74dfdce3d6ddcc02d5c49046e53dab29de2",
    "classifier": "238d59bf56059504ba1129a99c64a900b0dcb67ee4aeb2a244d4d5928d8de3e8",
    "rounds/pruned-30": "765c1f96e7b87ce799895eb15b6d7d69b84728b115ef80797ecfbece24d7720d",
}


def old_config(name: str) -> dict[str, Any]:
    """The config.json of a run of commit d21cde9."""
    with tarfile.open(FOLDER / f"{name.partition('/')[0]}.tar.xz") as archive:
        file = archive.extractfile(f"{name}/config.json")
        assert file is not None
        return json.load(file)


@pytest.mark.parametrize("name", DIGESTS)
def test_an_old_run_keeps_its_digest(name: str) -> None:
    assert digest(old_config(name)) == DIGESTS[name]


def test_an_old_field_is_read_by_its_new_name() -> None:
    old = old_config("rounds/pruned-30")
    assert config_from_json(old).evaluation.stop_at == old["evaluation"]["stop_at_accuracy"] > 0
    both = {**old, "evaluation": {**old["evaluation"], "stop_at": 1.0}}
    with pytest.raises(ValueError, match="unknown or missing keys"):
        config_from_json(both)


def test_a_study_that_recovered_without_a_teacher_has_none() -> None:
    recorded = json.loads(json.dumps(dataclasses.asdict(StudyConfig(recovery=RecoveryConfig(control=True)))))
    for name in ("distil_weight", "distil_temperature"):
        del recorded["recovery"][name]
    recovery = config_from_json(recorded, StudyConfig).recovery
    assert (recovery.control, recovery.distil_weight) == (True, 0.0)


def test_a_study_document_of_earlier_versions(tmp_path: Path) -> None:
    document = tmp_path / "study.py"
    document.write_text(
        "from tlc_jax.config import *\nfrom tlc_jax.studies.config import StudyConfig\n\n"
        "def get_config():\n    return StudyConfig(pretrain=Config(seed=7), sizes=('1x64', '2x64'))\n"
    )
    study = load_config(str(document), StudyConfig)
    assert (study.train.seed, study.sizes) == (7, ("1x64", "2x64"))
    option = renamed.renamed_option(StudyConfig, "--pretrain.data.held-out")
    assert option == "--train.data.held-out"


@pytest.mark.parametrize(("zstd", "coding"), [(False, "plain"), (True, "zstd")])
def test_a_study_that_wrote_zstd_writes_it_still(zstd: bool, coding: str) -> None:
    options = dataclasses.asdict(CompressConfig(bits=4))
    del options["coding"]
    assert renamed.upgraded(CompressConfig, {**options, "zstd": zstd})["coding"] == coding


@pytest.mark.parametrize("name", DIGESTS)
def test_an_old_run_keeps_the_epsilon_that_it_was_trained_with(name: str) -> None:
    """Version 0.1.0 had optax's; new runs have fairseq's."""
    assert config_from_json(old_config(name)).optimizer.epsilon_form == "optax"
    assert Config().optimizer.epsilon_form == "fairseq"


def test_a_run_that_began_with_a_share_of_local_attention_keeps_its_window(tmp_path: Path) -> None:
    """Shares of a budget in seconds are no number of tokens. The windows are those of the version before."""
    old, run = old_config("encoder"), RunDir(tmp_path)
    old["schedule"] |= {"local_attention": 0.3, "follows": "training_seconds", "warmup_steps": None}
    old["budget"] |= {"steps": None, "training_seconds": 60.0}
    old["data"]["sequence_length"] = 64
    old["model"]["max_positions"] = 64
    assert "local_attention_tokens" not in old["schedule"]
    write_json(run.config, old)
    config = run.read_config()
    run.check_same(config)
    assert config.schedule.local_attention_tokens is None
    windows = [int(controls(config, used, 10_000)["attention_reach"]) for used in (0.0, 0.1, 0.15, 0.2, 0.3)]
    assert windows == [3, 4, 6, 11, 64]


def test_a_field_added_since_has_the_value_of_old_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As if `epsilon` and `mask_rate` were younger than d21cde9."""
    old = old_config("encoder")
    assert old["optimizer"].pop("epsilon") != 0.5
    del old["task"]["mask_rate"]
    optimizer = {**renamed.ADDED["OptimizerConfig"], "epsilon": 0.5}
    added = {**renamed.ADDED, "OptimizerConfig": optimizer, "MlmConfig": {"mask_rate": 0.25}}
    monkeypatch.setattr(renamed, "ADDED", added)
    run = RunDir(tmp_path)
    write_json(run.config, old)
    config = run.read_config()
    assert (config.optimizer.epsilon, config.task.mask_rate) == (0.5, 0.25)
    run.check_same(config)
    new = dataclasses.replace(config, optimizer=dataclasses.replace(config.optimizer, epsilon=0.1))
    with pytest.raises(UserError, match=r"epsilon is 0\.1 but the run has 0\.5.*tlc_jax\.train --workdir"):
        run.check_same(new)
    values = {}
    for name, value in old.items():
        values |= {f"{name}.{k}": v for k, v in value.items()} if isinstance(value, dict) else {name: value}
    fixed = {name: value for name, value in values.items() if name not in FREE_ON_RESUME}
    expected = hashlib.sha256(json.dumps(fixed, sort_keys=True).encode()).hexdigest()
    assert digest(run.read_document()) == expected
    assert digest(dataclasses.asdict(new)) != expected


@pytest.mark.parametrize(("name", "kept"), [("encoder", None), ("translation", None), ("classifier", 0.5)])
def test_an_accuracy_is_no_target_of_a_run_that_is_judged_by_nats(
    tmp_path: Path, name: str, kept: float | None
) -> None:
    """0.5 nats per byte is another target than an accuracy of 0.5."""
    old, run = old_config(name), RunDir(tmp_path)
    assert renamed.dropped(old) == ""
    old["evaluation"]["stop_at_accuracy"] = 0.5
    write_json(run.config, old)
    assert run.read_config().evaluation.stop_at == kept
    sentence = renamed.dropped(run.read_document())
    assert ("0.5 is dropped: language models and translations now stop at" in sentence) == (kept is None)


@pytest.mark.parametrize(
    ("command", "arguments", "new"),
    [
        (Train, ["--evaluation.stop-at-accuracy", "0.9"], "--evaluation.stop-at"),
        (Train, ["--evaluation.stop_at_accuracy=0.9"], "--evaluation.stop-at"),
        (Study, ["--finetune.evaluation.stop-at-accuracy", "0.9"], "--finetune.evaluation.stop-at"),
    ],
)
def test_an_old_option_is_answered_with_its_new_name(command: type, arguments: list[str], new: str) -> None:
    says = f"^{arguments[0].partition('=')[0]} is now {new}: .*; language models .* nats per byte, or fewer$"
    with pytest.raises(UserError, match=says):
        cli.parse(command, arguments)


@pytest.mark.parametrize(
    ("kind", "option"),
    [
        (Config, "--workdir"),
        (Config, "--data.stop-at-accuracy"),
        (StudyConfig, "--evaluation.stop-at-accuracy"),
    ],
)
def test_other_options_are_left_to_the_parser(kind: type, option: str) -> None:
    assert renamed.renamed_option(kind, option) is None


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("from tlc_jax.config import *\ndef get_config(): return EvaluationConfig(stop_at_accuracy=0.9)",
         "the field stop_at_accuracy of EvaluationConfig is now stop_at"),
        ("from tlc_jax.core.quantspec import QuantSpec",
         r"no module tlc_jax\.core\.quantspec: import options from tlc_jax\.config"),
        ("from tlc_jax.core.data_config import DataConfig", r"import options from tlc_jax\.config"),
    ],
)  # fmt: skip
def test_old_names_in_a_document_are_answered_with_the_new(tmp_path: Path, source: str, says: str) -> None:
    (tmp_path / "c.py").write_text(source)
    with pytest.raises(UserError, match=says):
        load_config(str(tmp_path / "c.py"), Config)


def test_every_entry_names_a_field_that_is_there() -> None:
    from tlc_jax import config

    for name, fields in (*renamed.RENAMED.items(), *renamed.ADDED.items()):
        present = {field.name for field in dataclasses.fields(getattr(config, name))}
        new = set(renamed.RENAMED.get(name, {}).values()) | set(renamed.ADDED.get(name, {}))
        assert new <= present
        assert not set(renamed.RENAMED.get(name, {})) & present
        assert fields
    assert EvaluationConfig(stop_at=0.5).stop_at == 0.5
