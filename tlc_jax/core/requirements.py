"""Whether the installed packages go together, by what their own metadata ask for."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from packaging.requirements import Requirement


@dataclass(frozen=True)
class Conflict:
    """A package that is missing, or of another version than `needed_by` asks for."""

    name: str
    installed: str | None
    needed_by: str
    needed: str
    """As pip takes it: `jax<0.13,>=0.10`."""

    def __str__(self) -> str:
        has = f"is {self.installed}" if self.installed else "is missing"
        return f"{self.name} {has}, but {self.needed_by} needs {self.needed}"


def conflicts(packages: Iterable[tuple[str, str]]) -> list[Conflict]:
    """What does not fit of these packages, each with one of its extras or '', and of all that they need.
    PackageNotFoundError where one of the packages themselves is not installed."""
    todo, seen, wrong = list(packages), set[tuple[str, str]](), dict[str, Conflict]()
    while todo:
        name, extra = todo.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        for requirement in _requirements(name, extra):
            version = version_of(requirement.name)
            if version is None or not requirement.specifier.contains(version, prereleases=True):
                text = f"{requirement.name}{requirement.specifier}"
                wrong.setdefault(text, Conflict(requirement.name, version, name, text))
            if version is not None:
                todo += [(requirement.name, each) for each in ("", *requirement.extras)]
    return list(wrong.values())


def version_of(name: str) -> str | None:
    """The version of an installed package; None where it is not installed, or only remains of it are."""
    try:
        return importlib.metadata.version(name)
    except (importlib.metadata.PackageNotFoundError, KeyError):
        return None


def _requirements(name: str, extra: str) -> Iterator[Requirement]:
    from packaging.requirements import Requirement  # 20 ms that only doctor needs

    for text in importlib.metadata.requires(name) or ():
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
            yield requirement
