"""The packages of docs/architecture.md: a package imports only lower levels, no imports go in a circle, and
each library is known to one package alone. Imports inside functions count like all others.

`python -m pytest -s tests/project/test_layering.py` prints the graph of imports.
"""

from __future__ import annotations

import ast
import functools
import graphlib
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent.parent / "tlc_jax"
LEVELS = [
    {"config"},
    {"core"},
    {"storage"},
    {"models", "data", "compression", "parallel"},
    {"artifacts"},
    {"tasks"},
    {"training"},
    {"runs"},
    {"recipes", "inference", "checks"},
    {"studies"},
    {""},  # the commands, tlc_jax/*.py
]
ONLY_HERE = {
    "flax": "models",
    "optax": "training",
    "orbax": "runs",
    "tensorstore": "runs",
    "tensorflow_datasets": "data",
    "sklearn": "data",
    "huggingface_hub": "data",
    "tokenizers": "data",
    "tyro": "core/cli.py",
    "sacrebleu": "tasks",
    "safetensors": "artifacts",
    "matplotlib": "studies",
    "filelock": "storage",
    "tensorboardX": "training",
    "yaml": "artifacts",
}
POSIX_ONLY = {"fcntl", "grp", "pty", "pwd", "resource", "termios"}
POSIX_NAMES = set(
    "os.fchmod os.fork os.geteuid os.getloadavg os.getuid os.kill os.killpg os.mkfifo os.posix_fadvise "
    "os.pread os.pwrite os.setsid os.statvfs os.sysconf os.O_CLOEXEC os.O_DIRECTORY os.O_NOFOLLOW "
    "os.O_NONBLOCK signal.SIGHUP signal.SIGKILL signal.alarm".split()
)  # and os.kill(number, 0), which on Windows interrupts a console
HEAVY = {"numpy", "jax", "jaxtyping"}  # takes longer to import than --help may take
FILES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))


def module_name(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(("tlc_jax", *(parts[:-1] if parts[-1] == "__init__" else parts)))


MODULES = {module_name(path): path for path in FILES}
COMMANDS = [name for name, path in MODULES.items() if len(path.parts) == 1]
# config documents of users import these by their names of earlier versions
REEXPORTS = {Path("recipes/config.py"), Path("studies/config.py")}


@functools.cache
def tree(path: Path) -> ast.Module:
    return ast.parse((PACKAGE / path).read_text(encoding="utf-8"))


@functools.cache
def imports(path: Path, top: bool = False) -> frozenset[str]:
    """Names of the modules that a file imports; with `top` only those outside of functions."""
    names: set[str] = set()
    for node in tree(path).body if top else ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            members = {f"{node.module}.{alias.name}" for alias in node.names}
            modules = members & MODULES.keys()
            names |= modules
            if len(modules) < len(members):
                names.add(node.module)
    return frozenset(names)


def libraries(name: str, top: bool = False) -> set[str]:
    """What a module imports from outside of the package, itself or through other modules."""
    found, todo, seen = set[str](), [name], set[str]()
    while todo:
        module = todo.pop()
        if module in seen:
            continue
        seen.add(module)
        inside = imports(MODULES[module], top) & MODULES.keys()
        found |= {library.split(".")[0] for library in imports(MODULES[module], top) - inside}
        todo += inside
    return found


def package(path: Path) -> str:
    return path.parts[0] if len(path.parts) > 1 else ""


def level(path: Path) -> int:
    return next(i for i, names in enumerate(LEVELS) if package(path) in names)


@pytest.mark.parametrize("path", FILES, ids=str)
def test_imports_go_down(path: Path) -> None:
    for name in sorted(imports(path) & MODULES.keys() - {"tlc_jax"}):  # __init__: the version alone
        other = MODULES[name]
        within = package(other) == package(path) != ""
        assert within or level(other) < level(path), f"{path} imports {name}, which is not on a lower level"


def test_no_imports_go_in_a_circle() -> None:
    graph = {name: imports(path) & MODULES.keys() - {name} for name, path in MODULES.items()}
    order = list(graphlib.TopologicalSorter(graph).static_order())  # CycleError names a circle
    for names in LEVELS:
        print(f"\n{' '.join(sorted(names)) or 'commands'}")
        for name in (name for name in order if package(MODULES[name]) in names):
            print(f"  {name}: {' '.join(sorted(graph[name])) or '-'}")


@pytest.mark.parametrize("path", FILES, ids=str)
def test_libraries_stay_in_their_package(path: Path) -> None:
    used = {name.split(".")[0] for name in imports(path)} & ONLY_HERE.keys()
    homes = {package(path), path.as_posix()}
    assert not {library: ONLY_HERE[library] for library in used if ONLY_HERE[library] not in homes}, path


@pytest.mark.parametrize("path", FILES, ids=str)
def test_processes_are_joined_in_parallel_alone(path: Path) -> None:
    uses = [
        ast.unparse(node)
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Attribute) and ast.unparse(node).startswith("jax.distributed")
    ]
    assert not uses or package(path) == "parallel", uses


def test_config_needs_the_standard_library_alone() -> None:
    for name in (name for name, path in MODULES.items() if package(path) == "config"):
        assert libraries(name) <= sys.stdlib_module_names, name


def test_data_need_no_jax() -> None:
    for name in (name for name, path in MODULES.items() if package(path) == "data"):
        assert not libraries(name) & {"jax", "flax", "optax"}, name


@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_answered_before_anything_heavy_is_imported(name: str) -> None:
    assert not libraries(name, top=True) & HEAVY


@pytest.mark.parametrize("path", FILES, ids=str)
def test_no_module_needs_what_windows_lacks(path: Path) -> None:
    assert not imports(path, top=True) & POSIX_ONLY, path
    names = {ast.unparse(node) for node in ast.walk(tree(path)) if isinstance(node, ast.Attribute)}
    assert not names & POSIX_NAMES, path


def test_every_package_has_a_level() -> None:
    packages = {package(path) for path in FILES}
    assert packages == set().union(*LEVELS)


def test_no_two_files_have_one_name() -> None:
    names = [path.name for path in FILES if path.name != "__init__.py" and path not in REEXPORTS]
    assert sorted(names) == sorted(set(names))
