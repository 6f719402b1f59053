"""English that is already on the machine: docstrings of installed packages and Python's reference topics.

Read from the source files with `ast`; nothing is imported. A document is one module: its docstrings in order,
without examples and tables of code, one paragraph a line. A paragraph that occurs twice (the same parameter
is described in many functions) is kept once.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import importlib.util
import inspect
import itertools
import multiprocessing
import os
import platform
import re
import signal
import sysconfig
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from etils import epath

from tlc_jax.core.cores import usable_cores
from tlc_jax.core.errors import Interrupted, UserError
from tlc_jax.core.native import abandonable
from tlc_jax.data.text.text_source import TextSource

PACKAGES = ("numpy", "scipy", "jax", "flax", "optax", "orbax")
DISTRIBUTIONS = {"orbax": "orbax-checkpoint"}
_NOT_DOCUMENTATION = set("test tests testing site-packages idlelib lib2to3 _vendor __pycache__".split())
_TOPICS = "pydoc_data/topics.py"
Docstrings = list[list[str]]
_READ: dict[Path, Docstrings] = {}
_LEAST_LETTERS = 20  # a shorter paragraph is a heading or a name


def installed_docs() -> TextSource:
    """Documentation of `PACKAGES` and of Python itself; their versions go into the manifest."""
    modules = {name: path for root in ("python", *PACKAGES) for name, path in package_modules(root)}
    versions = {"python": platform.python_version()}
    versions |= {name: importlib.metadata.version(DISTRIBUTIONS.get(name, name)) for name in PACKAGES}
    return TextSource(
        name="documentation of " + ", ".join(f"{name} {version}" for name, version in versions.items()),
        origin={"kind": "docs", "versions": versions},
        files={name: epath.Path(path) for name, path in modules.items()},
        documents=lambda: _documents(list(modules.values())),
    )


def package_modules(root: str) -> Iterator[tuple[str, Path]]:
    """(name that does not depend on the machine, path) of each source file of a package or of Python."""
    if root == "python":
        folders = [sysconfig.get_paths()["stdlib"]]
    else:
        spec = importlib.util.find_spec(root)
        if spec is None or not spec.submodule_search_locations:
            raise UserError(
                f"data.name is 'docs' but the package {root} is not installed: pip install {root}"
            )
        folders = list(spec.submodule_search_locations)
    for folder in map(Path, folders):
        for parent, subfolders, names in os.walk(folder):
            subfolders[:] = sorted(set(subfolders) - _NOT_DOCUMENTATION)
            for path in (Path(parent, name) for name in sorted(names) if name.endswith(".py")):
                yield f"{root}/{path.relative_to(folder).as_posix()}", path


def _documents(paths: list[Path]) -> Iterator[str]:
    seen: set[bytes] = set()
    for path, docstrings in zip(paths, read_docstrings(paths), strict=True):
        # a module is a document, but so is each of Python's topics
        texts = docstrings if path.as_posix().endswith(_TOPICS) else [list(itertools.chain(*docstrings))]
        for paragraphs in texts:
            kept = []
            for paragraph in paragraphs:
                digest = hashlib.blake2b(paragraph.encode(), digest_size=12).digest()
                if digest not in seen:
                    seen.add(digest)
                    kept.append(paragraph)
            if kept:
                yield "\n".join(kept)


def read_docstrings(paths: list[Path]) -> list[Docstrings]:
    """`module_docstrings` of each file. Parsing is slow, so this process keeps the results (10 MB)."""
    new = [path for path in dict.fromkeys(paths) if path not in _READ]
    if new:
        # spawn: a forked child could wait for a lock of a thread that it does not have
        context = multiprocessing.get_context("spawn")
        others = set(multiprocessing.active_children())
        # Ctrl-C on a terminal reaches them too, but this process decides what to do
        ignore = (signal.SIGINT, signal.SIG_IGN)
        with ProcessPoolExecutor(usable_cores(), context, signal.signal, ignore) as pool:
            try:
                texts = abandonable(lambda: list(pool.map(module_docstrings, new, chunksize=32)))
            except Interrupted:
                pool.shutdown(wait=False, cancel_futures=True)
                for process in set(multiprocessing.active_children()) - others:
                    process.terminate()
                raise
        _READ.update(zip(new, texts, strict=True))
    return [_READ[path] for path in paths]


def module_docstrings(path: Path) -> Docstrings:
    """The paragraphs of each docstring, or topic, of one source file."""
    texts = _topics(path) if path.as_posix().endswith(_TOPICS) else _docstrings(_tree(path))
    return [prose for text in texts if (prose := paragraphs(text))]


def _topics(path: Path) -> Iterator[str]:
    return (text for text in _strings(_tree(path)) if len(text) > 200)


def _tree(path: Path) -> ast.Module:
    try:
        return ast.parse(path.read_text(encoding="utf-8", errors="replace"))
    except (SyntaxError, ValueError):
        return ast.Module([], [])  # a template, or a file for another version of Python


def _strings(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def _docstrings(tree: ast.Module) -> Iterator[str]:
    for node in _statements(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            if text := ast.get_docstring(node):
                yield text
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            if not _name(node.value.func).endswith("add_newdoc"):
                continue
            # numpy and scipy document their compiled functions in calls of add_newdoc
            texts = (text for argument in node.value.args for text in _strings(argument))
            yield from (inspect.cleandoc(text) for text in texts if " " in text.strip())


def _statements(tree: ast.Module) -> Iterator[ast.AST]:
    """All statements, breadth first; `ast.walk` takes longer, since it visits expressions too."""
    level: list[ast.AST] = [tree]
    while level:
        yield from level
        level = [
            child
            for node in level
            for field in ("body", "handlers", "orelse", "finalbody", "cases")
            for child in getattr(node, field, ())
        ]


def _name(node: ast.expr) -> str:
    """The last part of a dotted name."""
    return getattr(node, "attr", None) or getattr(node, "id", "")


_UNDERLINE = re.compile(r"^\s*([-=~^*#\"'.`])\1{2,}\s*$")
_DIRECTIVE = re.compile(r"^\s*(\.\. |:[a-z]+:`?|>>> |\.\.\. |@|[|+]|```)")


def paragraphs(text: str) -> list[str]:
    """The paragraphs of a docstring, without doctests and their output, underlines and tables."""
    prose_paragraphs = []
    for block in re.split(r"\n\s*\n", text):
        lines = block.splitlines()
        code = next((i for i, line in enumerate(lines) if line.lstrip().startswith(">>>")), len(lines))
        prose = [line for line in lines[:code] if not (_UNDERLINE.match(line) or _DIRECTIVE.match(line))]
        joined = " ".join(" ".join(prose).split())
        if sum(character.isalpha() for character in joined) >= _LEAST_LETTERS:
            prose_paragraphs.append(joined)
    return prose_paragraphs
