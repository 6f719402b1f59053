"""The packages of docs/architecture.md: a package imports only lower levels, no imports go in a circle, and
some libraries are known to one package alone. Imports inside functions count like all others."""

from __future__ import annotations

import ast
import functools
import graphlib
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent.parent / "tlc_jax"
LEVELS = [
    {"config"},
    {"core"},
    {"storage"},
    {"models", "data", "compression", "artifacts", "parallel"},
    {"tasks"},
    {"training"},
    {"runs"},
    {"recipes", "inference"},
    {"studies"},
]
COMMANDS = len(LEVELS)
ONLY_HERE = {
    "flax": "models",
    "optax": "training",
    "orbax": "runs",
    "tensorstore": "runs",
    "tensorflow_datasets": "data",
    "sklearn": "data",
    "tokenizers": "data",
    "tyro": "core/cli.py",
    "sacrebleu": "tasks",
    "safetensors": "artifacts",
    "matplotlib": "studies",
}
NOT_HERE = {"data": {"jax"}, "config": {"numpy", "jax", "jaxtyping", "tlc_jax.core"}}
# what --help imports
LIGHT = ["config", "core/cli.py", "core/errors.py", *(f"{path.name}" for path in PACKAGE.glob("*.py"))]
HEAVY = {"numpy", "jax", "jaxtyping"}
PUBLIC_NAMES = {"recipes/config.py", "studies/config.py"}  # what users' config documents import from
FILES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))


def module_name(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(("tlc_jax", *(parts[:-1] if parts[-1] == "__init__" else parts)))


MODULES = {module_name(path): path for path in FILES}


@functools.cache
def imports(path: Path, top: bool = False) -> frozenset[str]:
    """Names of the modules that a file imports; with `top` only those outside of functions."""
    tree = ast.parse((PACKAGE / path).read_text(encoding="utf-8"))
    nodes = list(tree.body if top else ast.walk(tree))
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            inside = {f"{node.module}.{alias.name}" for alias in node.names}
            modules = inside & MODULES.keys()
            names |= modules
            if len(modules) < len(inside):
                names.add(node.module)
    return frozenset(names)


def package(path: Path) -> str:
    return path.parts[0] if len(path.parts) > 1 else ""


def level(name: str) -> int:
    return next((i for i, names in enumerate(LEVELS) if name in names), COMMANDS)


@pytest.mark.parametrize("path", FILES, ids=str)
def test_imports_go_down(path: Path) -> None:
    for name in sorted(imports(path) & MODULES.keys()):
        other = package(MODULES[name])
        if name == "tlc_jax" or other == package(path) != "":
            continue
        assert level(other) < level(package(path)), f"{path} imports {name}, which is not on a lower level"


def test_no_imports_go_in_a_circle() -> None:
    graph = {name: imports(path) & MODULES.keys() - {name} for name, path in MODULES.items()}
    order = list(graphlib.TopologicalSorter(graph).static_order())  # CycleError names a circle
    for names in [*LEVELS, {""}]:
        print(" ".join(sorted(names)) or "commands")
        for name in (name for name in order if package(MODULES[name]) in names):
            print(f"  {name}: {' '.join(sorted(graph[name])) or '-'}")


@pytest.mark.parametrize("path", FILES, ids=str)
def test_libraries_stay_in_their_package(path: Path) -> None:
    libraries = {name.split(".")[0] for name in imports(path)}
    for library, home in ONLY_HERE.items():
        if library in libraries:
            assert home in (package(path), path.as_posix()), (
                f"{path} imports {library}, which belongs to {home}"
            )
    for library in NOT_HERE.get(package(path), ()):
        used = [name for name in imports(path) if name == library or name.startswith(f"{library}.")]
        assert not used, f"{path} imports {used}, which nothing in {package(path)}/ may"


@pytest.mark.parametrize("path", FILES, ids=str)
def test_help_is_answered_before_anything_heavy_is_imported(path: Path) -> None:
    if path.name == "__init__.py" or path.as_posix() in LIGHT or package(path) in LIGHT:
        assert not {name.split(".")[0] for name in imports(path, top=True)} & HEAVY, path


def test_every_package_has_a_level() -> None:
    packages = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    assert packages <= set().union(*LEVELS)


def test_no_two_files_have_one_name() -> None:
    files = [path for path in FILES if path.as_posix() not in PUBLIC_NAMES]
    names = [path.name for path in files if path.name != "__init__.py"]
    assert sorted(names) == sorted(set(names))
