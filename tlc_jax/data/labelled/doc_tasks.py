"""Two classification tasks made of the documentation installed on this machine: nothing to download.

docs/package (like SST-2): is a sentence from the documentation of numpy or of scipy? docs/pair (like MNLI):
does the second sentence continue the docstring of the first, come from another docstring of the same module,
or from another package?

Names of packages are masked, whole modules are kept for the reported set, classes are balanced, and of equal
sentences only the first is kept. In docs/pair a second sentence can be drawn more than once.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from etils import epath

from tlc_jax.config import DataConfig
from tlc_jax.core import stopping
from tlc_jax.data.fingerprints import hash64
from tlc_jax.data.labelled.labelled_source import Examples, LabelledDataSet, LabelledSource
from tlc_jax.data.text.installed_docs import PACKAGES, package_modules, read_docstrings

REPORTED = "held_out_modules"
_SHARE = 0.1  # of the modules are in the reported set
_NAMES = re.compile(rf"\b({'|'.join(PACKAGES)}|np|jnp|sp|nn|ocp)\b", re.IGNORECASE)
_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")


@dataclass(frozen=True)
class _Module:
    name: str
    package: str
    reported: bool
    docstrings: list[list[str]]


_Maker = Callable[[list[_Module], np.random.Generator], tuple[list[tuple[str, ...]], list[int]]]


def _data_set(
    name: str, packages: tuple[str, ...], label_names: tuple[str, ...], make: _Maker
) -> LabelledDataSet:
    def open_task(config: DataConfig, model_labels: Sequence[str] | None) -> LabelledSource:
        paths = {module: path for package in packages for module, path in package_modules(package)}
        modules = functools.cache(lambda: _modules(paths))  # parsing takes seconds

        def read(split: str) -> Examples:
            chosen = [module for module in modules() if module.reported == (split == REPORTED)]
            texts, classes = make(chosen, np.random.default_rng(0))
            return _balanced(texts, classes, len(label_names))

        return LabelledSource(
            description=f"{name}: documentation of {', '.join(packages)}",
            origin={"kind": name},
            files={module: epath.Path(path) for module, path in paths.items()},
            label_names=label_names,
            reported=(REPORTED,),
            read=read,
        )

    return LabelledDataSet(name, open_task)


def _modules(paths: dict[str, Path]) -> list[_Module]:
    """All modules with the sentences of their docstrings; a sentence that has occurred before is dropped."""
    seen: set[str] = set()
    modules = []
    for name, read in zip(paths, read_docstrings(list(paths.values())), strict=True):
        stopping.check()
        docstrings = []
        for paragraphs in read:
            sentences = []
            for sentence in _sentences(paragraphs):
                if sentence not in seen:
                    seen.add(sentence)
                    sentences.append(sentence)
            if sentences:
                docstrings.append(sentences)
        if docstrings:
            is_reported = hash64(name) < _SHARE * 2**64
            modules.append(_Module(name, name.split("/")[0], is_reported, docstrings))
    return modules


def _sentences(paragraphs: list[str]) -> Iterator[str]:
    for paragraph in paragraphs:
        for sentence in _SENTENCE.split(paragraph):
            masked = _NAMES.sub("package", sentence)
            if 30 <= len(masked) <= 300:
                yield masked


def _package_examples(
    modules: list[_Module], rng: np.random.Generator
) -> tuple[list[tuple[str, ...]], list[int]]:
    classes = {"numpy": 0, "scipy": 1}
    examples = [((s,), classes[m.package]) for m in modules for docstring in m.docstrings for s in docstring]
    return [texts for texts, _ in examples], [label for _, label in examples]


def _pair_examples(
    modules: list[_Module], rng: np.random.Generator
) -> tuple[list[tuple[str, ...]], list[int]]:
    """A pair for each docstring with a second sentence; its class is drawn first."""
    texts: list[tuple[str, ...]] = []
    classes: list[int] = []
    for module in modules:
        stopping.check()
        elsewhere = [m for m in modules if m.package != module.package]
        for i, docstring in enumerate(module.docstrings):
            if len(docstring) < 2:
                continue
            index = int(rng.integers(len(docstring) - 1))
            first, others = docstring[index], module.docstrings[:i] + module.docstrings[i + 1 :]
            label = int(rng.integers(3))
            if label == 0:
                second = docstring[index + 1]
            elif label == 1 and others:
                second = _draw(others, rng)
            elif label == 2 and elsewhere:
                second = _draw(elsewhere[int(rng.integers(len(elsewhere)))].docstrings, rng)
            else:
                continue
            texts.append((first, second))
            classes.append(label)
    return texts, classes


def _draw(docstrings: list[list[str]], rng: np.random.Generator) -> str:
    docstring = docstrings[int(rng.integers(len(docstrings)))]
    return docstring[int(rng.integers(len(docstring)))]


def _balanced(texts: list[tuple[str, ...]], labels: list[int], classes: int) -> Examples:
    """As many examples of each class as the rarest has, in a fixed mixed order."""
    order = np.random.default_rng(1).permutation(len(texts))
    counts = np.bincount(labels, minlength=classes)
    left = [int(counts.min())] * classes
    kept = []
    for i in order.tolist():
        if left[labels[i]]:
            left[labels[i]] -= 1
            kept.append(i)
    return Examples([texts[i] for i in kept], [labels[i] for i in kept])


DOCS_PACKAGE = _data_set("docs/package", ("numpy", "scipy"), ("numpy", "scipy"), _package_examples)
DOCS_PAIR = _data_set("docs/pair", PACKAGES, ("continues", "same_module", "other_package"), _pair_examples)
