"""The study command: its folder, its items, then tables, sentences, a picture and a page."""

from __future__ import annotations

from rich.console import Console

from tlc_jax.config.study_options import StudyConfig
from tlc_jax.storage.paths import AnyPath
from tlc_jax.studies.exhibit_pictures import save_pictures
from tlc_jax.studies.exhibits import EXHIBITS
from tlc_jax.studies.failed_items import failed_items, failures
from tlc_jax.studies.item_store import ItemStore
from tlc_jax.studies.item_worker import work
from tlc_jax.studies.items import items_of
from tlc_jax.studies.page.page_file import write_page
from tlc_jax.studies.study_folder import open_study
from tlc_jax.studies.study_workers import run_workers
from tlc_jax.training.view import make_console

PICTURE, PAGE = "study.png", "study.html"


def study(config: StudyConfig, workdir: AnyPath, workers: int = 1) -> None:
    """Do what is not finished, in this process or in several, then show the exhibits."""
    console = make_console()
    folder = open_study(config, workdir, console)
    items = items_of(folder.config)
    if finished := sum(folder.store.has(item.name) for item in items):
        failed = failed_items(folder.store).total()
        without = f", of which {failed} failed" if failed else ""
        console.print(f"{finished} of {len(items)} items are finished{without}")
    if workers > 1:
        run_workers(workers, workdir)
    else:
        work(folder)
    folder = open_study(config, workdir, console)  # other processes may have used other data
    show(folder.store, workdir, console)


def show(store: ItemStore, workdir: AnyPath, console: Console) -> None:
    """Print the tables and sentences of the exhibits that the store has rows for, draw them, and write the
    page; its answer is printed last."""
    shown = [(exhibit, rows) for exhibit in EXHIBITS if (rows := exhibit.rows(store))]
    for exhibit, rows in shown:
        console.print(exhibit.table(rows))
        for sentence in exhibit.sentences(rows):
            console.print(sentence)
    for sentence in failures(store):
        console.print(sentence)
    if not shown:
        console.print(f"nothing to show yet: {store.folder} holds no evaluation of a finished run")
        return
    pictures = save_pictures(shown, workdir / PICTURE).values()
    console.print(
        f"{'picture' if len(pictures) == 1 else 'pictures'}: {', '.join(map(str, pictures))}, "
        f"numbers: {store.folder}"
    )
    page = write_page([str(workdir)], workdir / PAGE)
    for text in page.answers:
        console.print(text)
    console.print(f"page: {workdir / PAGE}")
