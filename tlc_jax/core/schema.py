"""What a manifest must look like, as types: one check for all that is read back, one sentence for what is
wrong with it."""

from __future__ import annotations

import functools
from typing import Annotated, Any, NotRequired, TypeVar

from pydantic import ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict

from tlc_jax.core.printable import printable

__all__ = ["Count", "Name", "NotRequired", "Sha256", "TypedDict", "checked", "record"]

Kind = TypeVar("Kind")
Count = Annotated[int, Field(ge=0, le=2**53)]
"""A number of things or bytes."""
Name = Annotated[str, StringConstraints(min_length=1, max_length=1024)]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]

record = with_config(ConfigDict(strict=True, allow_inf_nan=False, extra="allow"))
"""Decorates a TypedDict: what it names is checked, further keys stay as they are."""


def checked(value: Any, kind: type[Kind]) -> Kind:
    """`value`, of which every part is of the type that `kind` says (a TypedDict, list[...], ...): no number
    for a string, no float for an integer. ValueError names the first field that is not."""
    try:
        return _adapter(kind).validate_python(value, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = "/".join(str(part) for part in first["loc"]) or "the whole"
        given = printable(repr(first["input"]), 60)
        raise ValueError(f"{printable(where)}: {_uncapitalized(first['msg'])}, not {given}") from None


@functools.cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _uncapitalized(text: str) -> str:
    return text[:1].lower() + text[1:]
