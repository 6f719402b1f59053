"""The options of a command, read from its dataclasses, and what is meant by an abbreviation."""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import itertools
import re
import textwrap
import typing
from collections.abc import Iterable, Iterator
from typing import Any


@dataclasses.dataclass(frozen=True)
class Option:
    name: str
    """Such as `optimizer.learning_rate`, which is --optimizer.learning-rate."""
    kind: Any
    """Its type, with annotations."""
    default: Any
    holder: type
    """The dataclass that has it as a field."""

    def help(self) -> str | None:
        """The docstring of its field; None without one."""
        return docs_of(self.holder).get(self.name.rpartition(".")[2])

    def summary(self) -> str:
        """The first sentence of that docstring."""
        return re.sub(r"\. .*", ".", self.help() or "")

    @property
    def of_documents(self) -> bool:
        """Whether no command line can give it a value: it has none, and only a config document can."""
        return not self.default and (self.help() or "").startswith("In a config document:")


def fields_of(values: Any) -> Iterator[Option]:
    """The fields of a dataclass with these values, dataclasses among them."""
    hints = typing.get_type_hints(type(values), include_extras=True)
    for field in dataclasses.fields(values):
        yield Option(field.name, hints[field.name], getattr(values, field.name), type(values))


def declared_fields(kind: type, missing: Any) -> Iterator[Option]:
    """The fields of a dataclass with the defaults that it declares; `missing` stands for none."""
    hints = typing.get_type_hints(kind, include_extras=True)
    for field in dataclasses.fields(kind):
        default = missing if field.default is dataclasses.MISSING else field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        yield Option(field.name, hints[field.name], default, kind)


def options_of(values: Any, prefix: str = "") -> Iterator[Option]:
    """The options of a command with these default values; those of its field `settings` have no prefix."""
    for field in fields_of(values):
        if dataclasses.is_dataclass(field.default):
            inner = "" if field.name == "settings" else f"{prefix}{field.name}."
            yield from options_of(field.default, inner)
        elif isinstance(field.default, tuple) and any(map(dataclasses.is_dataclass, field.default)):
            for position, item in enumerate(field.default):
                yield from options_of(item, f"{field.name}.{position}.")
        else:
            yield dataclasses.replace(field, name=prefix + field.name)


@functools.cache
def docs_of(kind: type) -> dict[str, str]:
    """The docstring of each field of a dataclass, those it inherits included, on one line; none where its
    source is not at hand, as in a config document."""
    docs = dict[str, str]()
    for base in (base for base in reversed(kind.__mro__) if dataclasses.is_dataclass(base)):
        try:
            [definition] = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        except (OSError, TypeError):
            continue
        for field, text in itertools.pairwise(getattr(definition, "body", [])):
            match field, text:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(doc))):
                    docs[name] = " ".join(doc.split())
    return docs


def meant_by(given: str, names: Iterable[str]) -> list[str]:
    """The options that `--lr`, `--optimizer.lr` or `--seq-len` may mean: those whose words, or the words of
    whose last part, begin as the given letters do."""
    letters = re.sub(r"[-._]", "", given)
    return [
        name
        for name in names
        if any(_begins(letters, re.split(r"[._]", part)) for part in (name, name.rpartition(".")[2]))
    ]


def _begins(letters: str, words: list[str]) -> bool:
    """Whether letters are beginnings of all words, one after the other."""
    if not words:
        return not letters
    return any(
        letters.startswith(words[0][:length]) and _begins(letters[length:], words[1:])
        for length in range(1, len(words[0]) + 1)
    )
