"""The floors of docs/architecture.md: a file imports only floors below its own, never a neighbour room."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "tlc_jax"
FLOORS = {
    "core": 0,
    "config": 0,
    "models": 1,
    "data": 1,
    "compression": 1,
    "artifacts": 1,
    "parallel": 1,
    "tasks": 2,
    "training": 3,
    "recipes": 4,
    "inference": 4,
    "studies": 5,
}
DOORS = 6
ONLY_HERE = {
    "flax": "models",
    "optax": "training",
    "orbax": "training",
    "tensorstore": "training",
    "tensorflow_datasets": "data",
    "sklearn": "data",
    "tokenizers": "data",
    "grain": "data",
    "tyro": "core",
    "sacrebleu": "tasks",
    "safetensors": "artifacts",
    "matplotlib": "studies",
}
# what --help imports, beside every __init__
LIGHT = (
    "config.py",
    "studies/config.py",
    "recipes/config.py",
    "core/cli.py",
    "core/errors.py",
    "core/quantspec.py",
)
HEAVY = {"numpy", "jax", "jaxtyping"}
FILES = sorted(PACKAGE.rglob("*.py"))


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= names if node.module in ("tlc_jax", "tlc_jax.core") else {node.module or ""}
    return found


def room(path: Path) -> str:
    """The package directly below tlc_jax, or the name of a file that lies there itself."""
    inside = path.relative_to(PACKAGE)
    return inside.parts[0] if len(inside.parts) > 1 else inside.stem


def floor(name: str) -> int:
    return FLOORS.get(name, DOORS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down(path: Path) -> None:
    own = room(path)
    for name in imports(path):
        parts = name.split(".")
        if parts[0] != "tlc_jax" or len(parts) == 1:
            continue
        other = parts[1]
        assert other == own or floor(other) < floor(own) or {own, other} == {"core", "config"}, (
            f"{path} (floor {floor(own)}) imports {name} (floor {floor(other)})"
        )


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_libraries_stay_in_their_room(path: Path) -> None:
    roots = {name.split(".")[0] for name in imports(path)}
    for library, home in ONLY_HERE.items():
        if library in roots and not (library == "tyro" and floor(room(path)) == DOORS):
            assert room(path) == home, f"{path} imports {library}, which belongs to {home}/"
    if room(path) == "data":
        assert "jax" not in roots, f"{path}: no jax in data/"
    light = path.relative_to(PACKAGE).as_posix() in LIGHT or path.name == "__init__.py"
    assert not (light and roots & HEAVY), f"{path} makes --help slow: {roots & HEAVY}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_keep_their_size(path: Path) -> None:
    lines = path.read_text().count("\n")
    door = path.parent == PACKAGE and path.stem not in FLOORS
    assert lines <= (60 if door else 400), f"{path} has {lines} lines"


def test_config_imports_only_the_standard_library() -> None:
    library = {"__future__", "collections.abc", "dataclasses", "fractions", "functools", "math", "typing"}
    own = {f"tlc_jax.core.{name}" for name in ("data_config", "marks", "model_config", "typed")}
    assert imports(PACKAGE / "config.py") <= library | own
    for name in own:
        assert imports(PACKAGE.parent / f"{name.replace('.', '/')}.py") <= library | own


def test_every_room_has_a_floor() -> None:
    rooms = {path.name for path in PACKAGE.iterdir() if path.is_dir() and (path / "__init__.py").exists()}
    assert rooms <= FLOORS.keys()
