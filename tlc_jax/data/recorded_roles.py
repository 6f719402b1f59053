"""Roles of special tokens in the manifest of prepared data, where they are not those of the encoders that we
train."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

from pydantic import Field

from tlc_jax.core.errors import UserError
from tlc_jax.core.schema import Count, TypedDict, record
from tlc_jax.core.vocabulary import Frame, Roles, roberta_roles

_Ids = Annotated[list[Count], Field(max_length=64)]


@record
class _RecordedFrame(TypedDict):
    special: Annotated[list[_Ids], Field(min_length=2, max_length=3)]
    special_types: Annotated[list[_Ids], Field(min_length=2, max_length=3)]
    text_types: _Ids


@record
class RecordedRoles(TypedDict):
    """The fields of `Roles`."""

    vocab_size: Count
    pad: Count
    begin: Count
    end: Count
    unknown: Count
    mask: Count | None
    never_drawn: list[Count]
    one: _RecordedFrame
    two: _RecordedFrame | None


def recorded(roles: Roles) -> dict[str, Any]:
    """What a manifest says of them, and what the identity of the data depends on: nothing of our own."""
    return {} if roles.ours else {"roles": dataclasses.asdict(roles)}


def roles_in(manifest: dict[str, Any]) -> Roles:
    """The roles of the tokenizer with which data were prepared."""
    stored: RecordedRoles | None = manifest.get("roles")
    if stored is None:
        return roberta_roles(manifest["vocab_size"])
    frames = {name: _frame(stored[name]) for name in ("one", "two")}
    return Roles(**{**stored, "never_drawn": tuple(stored["never_drawn"]), **frames})


def check_roles(manifest: dict[str, Any]) -> None:
    """ValueError where the ids of recorded roles are not below the vocabulary size of the data."""
    roles = roles_in(manifest)
    ids = {*roles.controls, roles.unknown, *roles.never_drawn, roles.vocab_size - 1}
    if max(ids) >= manifest["vocab_size"] or len(roles.never_drawn) >= roles.vocab_size:
        raise ValueError(f"roles: they do not fit into vocab_size {manifest['vocab_size']:,}")


def check_pad(roles: Roles, pad: int | None, source: str) -> None:
    """UserError where a model takes another id than `pad` for the pad; None: any model. `source` is what the
    roles are of."""
    if pad not in (None, roles.pad):
        raise UserError(
            f"model.pad_id is {pad}, but the pad of {source} has the id {roles.pad}: set --model.pad-id "
            f"{roles.pad}, or give the tokenizer of the model"
        )


def _frame(stored: _RecordedFrame | None) -> Frame | None:
    if stored is None:
        return None
    special, types = (tuple(map(tuple, stored[name])) for name in ("special", "special_types"))
    return Frame(special, types, tuple(stored["text_types"]))
