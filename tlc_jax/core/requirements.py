"""Whether the installed packages go together, by what their own metadata ask for."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

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
    """What does not fit of these packages, each with one of its extras or '', and of all that they need. What
    a package asks for that will itself be replaced does not count: another version asks for something else.
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
    replaced = {_canonical(conflict.name) for conflict in wrong.values()}
    lasting = [conflict for conflict in wrong.values() if _canonical(conflict.needed_by) not in replaced]
    return lasting or list(wrong.values())  # two that ask for other versions of each other


def merged(wrong: Sequence[Conflict]) -> list[str]:
    """One requirement for each package, which holds what all others ask of it, as pip takes it."""
    from packaging.requirements import Requirement

    specifiers: dict[str, Any] = {}
    for conflict in wrong:
        name = _canonical(conflict.name)
        specifier = Requirement(conflict.needed).specifier
        specifiers[name] = specifiers[name] & specifier if name in specifiers else specifier
    return [f"{name}{specifier}" for name, specifier in specifiers.items()]


def version_of(name: str) -> str | None:
    """The version of an installed package; None where it is not installed, or only remains of it are."""
    try:
        return importlib.metadata.version(name)
    except (importlib.metadata.PackageNotFoundError, KeyError):
        return None


def module_package(module: str) -> str | None:
    """The installed package that a module belongs to; None where there is none."""
    return next(iter(importlib.metadata.packages_distributions().get(module.partition(".")[0], ())), None)


def _canonical(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")


def _requirements(name: str, extra: str) -> Iterator[Requirement]:
    from packaging.requirements import Requirement  # 20 ms that only doctor needs

    for text in importlib.metadata.requires(name) or ():
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
            yield requirement
