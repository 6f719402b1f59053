"""The wheel has all that commands need: it is built, installed and used from a folder without a checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.project.documents import ROOT
from tlc_jax import __main__
from tlc_jax.studies.page.page_html import SCRIPTS

TINY = (
    "--data.name files --data.sequence-length 32 --data.held-out 0.1 --model.num-layers 1 "
    "--model.hidden-size 16 --model.head-size 8 --model.vocab-size 300 --model.max-positions 32 "
    "--budget.steps 2 --budget.training-seconds None --schedule.follows steps --evaluation.per-run None "
    "--batch-size 16"
).split()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = ["wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(ROOT)]
    subprocess.run([sys.executable, "-m", "pip", *build], check=True)
    [built] = folder.iterdir()
    return built


@pytest.fixture(scope="module")
def run(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Runs a program with the installed wheel, in a folder of its own, and returns what it prints."""
    folder, site = tmp_path_factory.mktemp("elsewhere"), tmp_path_factory.mktemp("site")
    install = ["install", "--quiet", "--no-deps", "--no-index", "--target", str(site), str(wheel)]
    subprocess.run([sys.executable, "-m", "pip", *install], check=True)
    env = {**os.environ, "PYTHONPATH": str(site), "PATH": f"{site / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    env["HOME"] = str(folder)
    where = "import tlc_jax, pathlib; print(pathlib.Path(tlc_jax.__file__).parent.parent)"

    def run(*words: str) -> str:
        ended = subprocess.run(words, cwd=folder, env=env, capture_output=True, text=True)
        assert ended.returncode == 0, f"{words}: {ended.stderr}"
        return ended.stdout

    assert run(sys.executable, "-c", where).strip() == str(site)
    return run


@pytest.mark.slow
def test_the_wheel_has_the_package_and_its_configs_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    configs = {path.name for path in (ROOT / "configs").glob("*.py")}
    assert {name.rpartition("/")[2] for name in names if name.startswith("tlc_jax/configs/")} == configs
    assert {"tlc_jax/py.typed", "tlc_jax/__init__.pyi"} <= set(names)
    page = {f"tlc_jax/studies/page/{name}" for name in (*SCRIPTS, "live.js", "page.css", "plot/plot.js")}
    assert page <= set(names)
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"tlc_jax"}
    assert not [name for name in names if "__pycache__" in name]


@pytest.mark.slow
def test_a_run_from_the_wheel(run: Callable[..., str], corpus: Path) -> None:
    """Configs have their bare names, also without a checkout."""
    given = ["--config", "quickstart", "--workdir", "run", *TINY, "--data.dir", str(corpus)]
    checked = run("tlc", "doctor", *given)
    assert checked.splitlines()[-1].startswith(
        "next: tlc train --config quickstart --workdir run --data.name"
    )
    assert "done: 2 steps in run" in run(sys.executable, "-m", "tlc_jax.train", *given)


@pytest.mark.slow
def test_all_commands_are_there(run: Callable[..., str]) -> None:
    shown = run("tlc", "--help")
    assert all(name in shown for name in __main__.COMMANDS)
