"""launch/colab.ipynb: interrupted on this machine, and resumed as in Colab, which stand-ins act out."""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
import threading
from html import unescape
from pathlib import Path

import nbformat
import psutil
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from tests.builders import write_pairs
from tests.launch.machines import LAUNCH, ROOT, program, search_path, wait_for
from tlc_jax import __version__

NOTEBOOK = LAUNCH / "colab.ipynb"
DRIVE = "/content/drive/MyDrive/tlc_jax"
# of an image of Colab: too old for this package, of JAX, or neither
IMAGE = {"rich": "13.9.4", "jax": "0.7.2", "jaxlib": "0.7.2", "libtpu": "0.0.21", "Pandas_X": "2.2.2"}
IMAGE |= {"jaxtyping": "0.3.11", "numpy": "2.4.0", "fsspec": "2025.3.0", "torch": "2.11.0+cu128"}
PIP = """#!/bin/sh
echo "$*" >>pip.log
if [ "$1" = list ]; then printf '%s'; fi
"""
OPTIONS = (
    "--sizes 1x16 2x16 --bits 32 4 --train.model.head-size 8 --train.model.vocab-size 300 "
    "--train.data.train one.tsv --train.data.sequence-length 32 --train.data.held-out 0.1 "
    "--train.budget.training-seconds 0.3 --train.batch-size 512"
)


def read() -> nbformat.NotebookNode:
    return nbformat.read(NOTEBOOK, as_version=4)


def outputs(notebook: nbformat.NotebookNode, cell: str) -> str:
    """What a cell printed."""
    [shown] = [each for each in notebook.cells if each.id == cell]
    return "".join(output.get("text", "") for output in shown.outputs)


def results(folder: Path) -> dict[str, bytes]:
    """The finished items of the study."""
    items = folder / "study" / "items"
    return {str(path.relative_to(items)): path.read_bytes() for path in items.rglob("*.json")}


def kill_study_after(folder: Path, items: int) -> None:
    """As a disconnect does it. The study is a descendant of the kernel, which is a child of this process."""
    wait_for(lambda: len(results(folder)) >= items, f"{items} results")
    for process in psutil.Process().children(recursive=True):
        if "tlc_jax.study" in process.cmdline():
            process.kill()


@pytest.fixture
def colab(tmp_path: Path) -> dict[str, str]:
    """What makes this machine Colab: its variable, its modules, and a pip that installs nothing."""
    module = tmp_path / "modules" / "google" / "colab"
    module.mkdir(parents=True)
    (module / "__init__.py").touch()
    (module / "drive.py").write_text("def mount(path):\n    print('mounted', path)\n")
    freeze = "".join(f"{name}=={version}\\n" for name, version in IMAGE.items())
    (tmp_path / "bin").mkdir()
    program(tmp_path / "bin" / "pip", PIP.replace("%s", freeze))
    return {
        "COLAB_RELEASE_TAG": "release",
        "PYTHONPATH": str(tmp_path / "modules"),
        "PATH": search_path(tmp_path / "bin"),
    }


@pytest.mark.slow
def test_interrupted_and_resumed_in_colab(colab: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "pairs").mkdir()
    pairs = write_pairs(tmp_path / "pairs")
    data = {"--train.data.dir": pairs, "--train.data.cache-dir": tmp_path / "cache"}
    options = shlex.join([*OPTIONS.split(), *(str(word) for pair in data.items() for word in pair)])
    flags = os.environ["XLA_FLAGS"].replace("device_count=8", "device_count=1")
    here = {
        **os.environ,
        "XLA_FLAGS": flags,
        "TLC_STUDY_OPTIONS": options,
        "PATH": search_path(Path(sys.executable).parent),
    }
    kept = tmp_path / "content" / "drive" / "MyDrive" / "tlc jax"

    def execute(env: dict[str, str]) -> nbformat.NotebookNode:
        """Runs all cells, with another folder for the runs, as a user sets it."""
        notebook = read()
        [settings] = [cell for cell in notebook.cells if cell.id == "settings"]
        for before in (f'"{DRIVE}"', '"runs"'):
            assert before in settings.source
            settings.source = settings.source.replace(before, repr(str(kept)))
        client = NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}})
        return client.execute(env=env)

    killer = threading.Thread(target=kill_study_after, args=(kept, 2))
    killer.start()
    with pytest.raises(CellExecutionError, match="stopped: run this cell again to resume"):
        execute(here)
    killer.join()
    before = results(kept)
    assert not (tmp_path / "pip.log").exists(), "nothing is installed on a machine that is not Colab"

    shown = execute({**here, **colab})
    assert "mounted /content/drive" in outputs(shown, "install")
    assert "ok      devices" in outputs(shown, "check")
    after = results(kept)
    assert {name: after[name] for name in before} == before
    stages = [json.loads(content)["stage"] for content in after.values()]
    assert sorted(stages) == sorted(2 * ["train", *3 * ["branch"], *2 * ["compress"]])
    assert "\x1b" not in outputs(shown, "study"), "a notebook cannot move the cursor"
    assert re.search(r"│ 2x16 +│ +0 % +│ +\d\.\d+", outputs(shown, "study")), "the table is not cut"
    [page] = [cell for cell in shown.cells if cell.id == "page"]
    [framed] = re.findall('srcdoc="([^"]*)"', page.outputs[0].data["text/html"])
    assert unescape(framed) == (kept / "study" / "study.html").read_text("utf-8")

    pip = (tmp_path / "pip.log").read_text().splitlines()
    wheel = f"{DRIVE}/tlc_jax-{__version__}-py3-none-any.whl"
    assert pip == [
        "list --format=freeze",
        f"install --quiet --no-deps --force-reinstall {wheel}",
        "install --quiet --constraint constraints.txt tlc-jax[] jax[tpu]",
    ]
    assert set((tmp_path / "constraints.txt").read_text().splitlines()) == {
        "pandas-x==2.2.2", "numpy==2.4.0", "torch==2.11.0+cu128",
    }  # fmt: skip


def test_it_is_committed_without_outputs_and_names_what_is_there() -> None:
    notebook = read()
    nbformat.validate(notebook)
    assert len(notebook.cells) <= 12
    for cell in notebook.cells:
        assert not cell.get("outputs")
        assert not cell.get("execution_count")
        for name in re.findall(r"`((?:\w+/)*\w+\.md)`", cell.source):
            assert (ROOT / name).is_file()
