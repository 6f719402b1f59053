"""Items of a study that have no result, since a number is not finite: a training has diverged. They are
sealed as failed, with all that need them, and the study continues without them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from tlc_jax.core.errors import NotFinite
from tlc_jax.core.printable import counted, printable
from tlc_jax.studies.item_store import Failure, ItemStore, Result
from tlc_jax.studies.items import Item
from tlc_jax.studies.made import made

_OF_A_FINETUNING = ("combination", "finetuning_seed")
_MOST = 5  # failures that have a sentence each


def attempted(item: Item, do: Callable[[], Result]) -> Result:
    """The result of an item, or one that says why it failed."""
    try:
        return do()
    except NotFinite as error:
        return failed(item, Failure(item=item.name, reason=error.reason))


def failed(item: Item, failure: Failure) -> Result:
    """What is sealed in place of the result of an item."""
    return Result(item=item.name, stage=item.stage, fields=item.fields, rows=[], made=made(), failed=failure)


def sealed(result: Result, store: ItemStore) -> Result:
    """Store a result or, if a number of it is not finite, that its item has failed. Returns what is
    stored."""
    try:
        store.seal(result)
    except NotFinite as error:
        result = Result(
            item=result["item"],
            stage=result["stage"],
            fields=result["fields"],
            rows=[],
            made=result["made"],
            failed=Failure(item=result["item"], reason=error.reason),
        )
        store.seal(result)
    return result


def failure_of_needs(item: Item, store: ItemStore) -> Failure | None:
    """Why a finished item that this one rests on has failed; None if none has. Models need all finetunings,
    to choose from, but rest on one of them."""
    for name in item.needs:
        needed = store.result(name)
        shared = (column for column in _OF_A_FINETUNING if column in needed["fields"])
        of_this = all(item.fields.get(column) == needed["fields"][column] for column in shared)
        if of_this and "failed" in needed:
            return needed["failed"]
    return None


def failed_items(store: ItemStore) -> Counter[str]:
    """The number of failed items, by stage."""
    return Counter(result["stage"] for result in store.results() if "failed" in result)


def failures(store: ItemStore) -> list[str]:
    """A sentence on each item that has failed by itself, for the reader of what is shown without it."""
    affected: dict[str, list[str]] = {}
    reasons: dict[str, str] = {}
    for result in store.results():
        if failure := result.get("failed"):
            affected.setdefault(failure["item"], []).append(result["item"])
            reasons[failure["item"]] = failure["reason"]
    sentences = [_sentence(item, len(names) - 1, reasons[item]) for item, names in affected.items()]
    if more := sentences[_MOST:]:
        sentences[_MOST:] = [f"{counted(len(more), 'more item')} failed in such a way."]
    return sentences


def _sentence(item: str, others: int, reason: str) -> str:
    those = f", with {counted(others, 'item')} that need{'s' if others == 1 else ''} it" if others else ""
    return (
        f"Left out is {item}{those}: {printable(reason, 500)}. Lower its learning rate, in a new study or, "
        "of a training, in one more of --variants."
    )
