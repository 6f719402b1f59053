"""Items that ask the compiler for the memory of an update."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from rich.console import Console

from tlc_jax.config import Config, DataConfig, ModelConfig
from tlc_jax.config.study_options import StudyConfig
from tlc_jax.studies.item_store import ItemStore
from tlc_jax.studies.items import items_of
from tlc_jax.studies.memory_item import memory_item
from tlc_jax.studies.same_data import SameData
from tlc_jax.studies.study_folder import StudyFolder
from tlc_jax.studies.study_record import joined_config, open_folder_of

ALL = "model.shared_layers=all"
MODEL = ModelConfig(head_size=8, vocab_size=300, max_positions=16, remat="none")


def study(*variants: str, memory_of: tuple[str, ...] = ("3x16,batch_size=8",)) -> StudyConfig:
    base = StudyConfig().train
    data = DataConfig(sequence_length=16)
    train = dataclasses.replace(base, model=MODEL, data=data, batch_size=64, micro_batch=16)
    return StudyConfig(train=train, sizes=("1x16",), variants=variants, memory_of=memory_of)


def test_variants_whose_updates_are_the_same_program_are_compiled_once() -> None:
    items = items_of(study("", ALL, "optimizer.learning_rate=0.01", f"{ALL},data_share=0.05"))
    memory = [item for item in items if item.stage == "memory"]
    assert [item.name for item in memory] == [
        "memory/3x16,batch_size=8",
        f"memory/3x16,batch_size=8,{ALL}",
    ]
    assert [item.fields["variant"] for item in memory] == ["", ALL]
    assert not any(item.needs for item in memory)
    assert all("memory" not in need for item in items for need in item.needs), "trainings do not wait for it"


def test_a_network_has_the_options_of_training_but_its_own_and_one_batch() -> None:
    config = study("").memory_config("3x16,batch_size=8", ALL)
    assert (config.model.num_layers, config.model.hidden_size) == (3, 16)
    assert isinstance(config.model, ModelConfig)
    assert config.model.shared_layers == "all"
    assert (config.batch_size, config.at_once) == (8, 8)
    assert config.model.vocab_size == 300


@pytest.mark.parametrize(
    ("network", "says"),
    [
        ("3", "is not DEPTHxWIDTH"),
        ("3x16,seed=1", "seed is that of a training"),
        ("3x17", "is not a multiple of model.head_size"),
        ("3x16,batchsize=8", "'batchsize' is no option of train"),
    ],
)
def test_a_network_that_cannot_be_is_refused(network: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        study("", memory_of=(network,))


def test_networks_are_added_to_a_study(tmp_path: Path) -> None:
    same_data = SameData(tmp_path / "data.json")
    open_folder_of(study("", memory_of=()), tmp_path / "study", same_data)
    grown = joined_config(study(""), tmp_path / "study", same_data)
    assert grown.memory_of == ("3x16,batch_size=8",)


def test_the_result_has_the_bytes_and_what_they_depend_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Config] = []

    def compiled(config: Config) -> dict[str, int]:
        asked.append(config)
        return dict.fromkeys(("parameter_bytes", "optimizer_bytes", "temporary_bytes", "peak_bytes"), 7)

    monkeypatch.setattr("tlc_jax.studies.memory_item.update_memory", compiled)
    config = study("", ALL)
    folder = StudyFolder(
        config, tmp_path, ItemStore(tmp_path), SameData(tmp_path / "data.json"), Console(quiet=True)
    )
    item = [item for item in items_of(config) if item.stage == "memory"][1]
    result = memory_item(item, folder)
    assert asked == [config.memory_config("3x16,batch_size=8", ALL)]
    assert {row["metric"]: row["value"] for row in result["rows"]}["peak_bytes"] == 7
    width, layers, vocab, positions = 16, 1, 300, 16 + 2  # all layers share one; two positions are for pads
    layer = 12 * width**2 + 13 * width
    head = width**2 + 3 * width + vocab
    count = (vocab + positions) * width + 2 * width + layers * layer + 2 * width + head
    assert {row["parameter_count"] for row in result["rows"]} == {count}
    assert result["rows"][0]["layers"] == "3x16"
    assert folder.store.seal(result)
    assert len(folder.store.rows(stage="memory", variant=ALL, network="3x16,batch_size=8")) == 4
