"""The README's two commands are the ones that continuous integration runs."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def commands() -> list[str]:
    return re.findall(r"^    (python -m .*)$", (ROOT / "README.md").read_text(), flags=re.MULTILINE)


def test_the_first_two_commands() -> None:
    study, test = commands()[:2]
    assert study == "python -m tlc_jax.study --config quickstart_study --workdir runs/study"
    assert test == "python -m pytest -n 2"


def test_every_config_in_the_readme_exists() -> None:
    named = {name for command in commands() for name in re.findall(r"--config (\w+)", command)}
    assert named
    assert named <= {path.stem for path in (ROOT / "configs").glob("*.py")}


def test_every_file_in_the_readme_exists() -> None:
    text = (ROOT / "README.md").read_text()
    paths = re.findall(r"`((?:tlc_jax|configs|docs|tests)/[\w./]+)`", text)
    assert len(paths) > 10
    missing = [path for path in paths if not (ROOT / path).exists()]
    assert not missing
