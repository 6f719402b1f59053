"""Schemas of manifests as types: one check for every document that is read back, with one sentence for what
is wrong with it."""

from __future__ import annotations

import functools
from typing import Annotated, Any, NotRequired, TypeVar

from pydantic import ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict

from tlc_jax.core.printable import printable

__all__ = ["Count", "Name", "NotRequired", "Sha256", "TypedDict", "checked", "record"]

Kind = TypeVar("Kind")
Count = Annotated[int, Field(ge=0, le=2**53)]
"""A number of objects or bytes."""
Name = Annotated[str, StringConstraints(min_length=1, max_length=1024)]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]

record = with_config(ConfigDict(strict=True, allow_inf_nan=False, extra="allow"))
"""Decorator of a TypedDict: its keys are checked, other keys are kept unchecked."""


def checked(value: Any, kind: type[Kind]) -> Kind:
    """`value`, checked strictly against the type `kind` (a TypedDict, list[...], ...): no string for a
    number, no float for an integer. ValueError names the first field that does not match."""
    try:
        return _adapter(kind).validate_python(value, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        path = "/".join(str(part) for part in first["loc"]) or "the whole document"
        given = printable(repr(first["input"]), 60)
        raise ValueError(f"{printable(path)}: {_uncapitalized(first['msg'])}, not {given}") from None


@functools.cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _uncapitalized(text: str) -> str:
    return text[:1].lower() + text[1:]
