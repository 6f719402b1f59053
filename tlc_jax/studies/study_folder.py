"""The folder of a study: its config, its finished items, its runs and its data."""

from __future__ import annotations

from dataclasses import dataclass

from rich.console import Console

from tlc_jax.config.study_options import StudyConfig
from tlc_jax.core.command_line import options_below
from tlc_jax.storage.paths import AnyPath
from tlc_jax.storage.run_directory import STUDY, RunDir
from tlc_jax.studies.item_store import ItemStore
from tlc_jax.studies.items import Item, items_of
from tlc_jax.studies.made import commit
from tlc_jax.studies.same_data import SOURCES, SameData
from tlc_jax.studies.study_record import open_folder_of
from tlc_jax.tasks.kinds import kind_of


@dataclass(frozen=True)
class StudyFolder:
    """A study as a process works on it."""

    config: StudyConfig
    workdir: AnyPath
    store: ItemStore
    same_data: SameData
    console: Console

    def run(self, name: str) -> RunDir:
        """The run directory of an item."""
        return RunDir(self.workdir / "runs" / name)


def open_study(config: StudyConfig, workdir: AnyPath, console: Console) -> StudyFolder:
    """Make the folder of a study or open it. UserError, before anything is trained, if there are no data, if
    it holds another study, or if its runs and results differ in their data."""
    commit()  # of the code as it is now
    if not (workdir / STUDY).exists():  # which would hold a study that cannot begin
        stages = {"train": None if config.pretrained else config.train, "finetune": config.finetune}
        for name, stage in stages.items():
            if stage is not None:
                with options_below(name):
                    kind_of(stage).source(stage)
    same_data = SameData(workdir / SOURCES)
    config = open_folder_of(config, workdir, same_data)
    folder = StudyFolder(config, workdir, ItemStore(workdir), same_data, console)
    for item in items_of(config):
        _meet(item, folder)
    return folder


def _meet(item: Item, folder: StudyFolder) -> None:
    """Compare the data of an item's run and of its result with those of the items before it."""
    if item.stage in ("train", "finetune", "distil"):
        stage = "finetune" if item.stage == "finetune" else "train"
        folder.same_data.meet_run(stage, folder.run(item.name).root)
    if folder.store.has(item.name):
        data = folder.store.result(item.name).get("data", {})
        folder.same_data.meet(str(folder.store.path(item.name)), data)
