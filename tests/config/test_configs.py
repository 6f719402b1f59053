"""Config documents and dataclasses: valid values, and JSON and back."""

from __future__ import annotations

import dataclasses
import json
import re
from typing import Any

import pytest

from tlc_jax.config import (
    BudgetConfig,
    CompressConfig,
    Config,
    DataConfig,
    ModelConfig,
    OptimizerConfig,
    ScheduleConfig,
    StudyConfig,
)
from tlc_jax.config.saved import config_from_json, flat
from tlc_jax.core.config_document import config_names, load_config, scaled_names
from tlc_jax.core.errors import UserError

DOCUMENTS = [(name, *scaled_names(name)) for name in config_names()]
"""Each document by its bare name and at each of its scales."""


@pytest.mark.parametrize("name", dict.fromkeys(name for names in DOCUMENTS for name in names))
def test_every_document_loads_and_survives_json(name: str) -> None:
    config = load_config(name, object)
    assert isinstance(config, (Config, StudyConfig, CompressConfig))
    hash(config)
    if isinstance(config, CompressConfig):
        return
    runs = [config] if isinstance(config, Config) else [config.train, config.finetune]
    for run in filter(None, runs):
        assert config_from_json(json.loads(json.dumps(dataclasses.asdict(run)))) == run


def test_the_bare_name_of_a_document_means_its_first_scale() -> None:
    assert load_config("study_translation", StudyConfig) == load_config("study_translation:mini", StudyConfig)
    assert load_config("study_translation:gpu", StudyConfig) != load_config("study_translation", StudyConfig)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("study_translation:huge", "study_translation.py: no scale 'huge'; it has mini, gpu, paper$"),
        ("quickstart:mini", "quickstart.py: no scale 'mini'; it has no scales: leave :mini out$"),
        (
            "study_translatoin:gpu",
            "study_translatoin:gpu is no file.*perhaps study_translation$",
        ),
        (":", "--config : is no file and no config"),
    ],
)
def test_a_scale_that_a_document_lacks(name: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        load_config(name, StudyConfig)


@pytest.mark.parametrize(
    "make",
    [
        lambda: ModelConfig(num_layers=0),
        lambda: ModelConfig(dropout=1.0),
        lambda: OptimizerConfig(learning_rate=-1),
        lambda: DataConfig(held_out=0),
        lambda: BudgetConfig(steps=0),
        lambda: Config(budget=BudgetConfig()),
        lambda: Config(budget=BudgetConfig(steps=5), schedule=ScheduleConfig(follows="training_seconds")),
        lambda: Config(seed=-1),
        lambda: Config(memory_gib=float("inf")),
    ],
)
def test_values_out_of_range(make) -> None:
    with pytest.raises(ValueError, match="must|not set"):
        make()


@pytest.mark.parametrize(("size", "heads_of"), [("1x32", 32), ("2x96", 32), ("1x100", 4)])
def test_a_width_that_heads_do_not_divide_is_answered_with_a_head_size(size: str, heads_of: int) -> None:
    """One that divides 64 too, so that it fits the other widths of a study."""
    with pytest.raises(ValueError, match=r"is not a multiple of model\.head_size 64") as refused:
        StudyConfig(sizes=(size, "2x128"))
    option = re.search(r"--train\.model\.head-size (\d+)", str(refused.value))
    assert option is not None
    assert int(option[1]) == heads_of
    model = dataclasses.replace(StudyConfig().train.model, head_size=heads_of)
    study = StudyConfig(sizes=(size, "2x128"), train=dataclasses.replace(StudyConfig().train, model=model))
    assert [study.train_of(each).model.heads for each in study.sizes] == [
        int(each.partition("x")[2]) // heads_of for each in study.sizes
    ]


@pytest.mark.parametrize("options", [{"scope": "layer"}, {"max_tensor_sparsity": 0.5}])
def test_options_of_pruning_that_would_have_no_effect(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="nothing is pruned: give --sparsity"):
        CompressConfig(**options)
    assert CompressConfig(**options, sparsity=0.3)
    assert CompressConfig(**options, target_mb=3)


def test_flat_names_every_field() -> None:
    names = flat(Config())
    assert names["model.num_layers"] == 12
    assert names["seed"] == 0
    assert len(names) == sum(
        len(dataclasses.fields(value)) if dataclasses.is_dataclass(value) else 1
        for value in vars(Config()).values()
    )
