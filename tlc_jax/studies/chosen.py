"""Which finetunings of a study are compressed."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable

from tlc_jax.studies.item_store import Result, Row
from tlc_jax.studies.items import Item
from tlc_jax.studies.measured import metric_of
from tlc_jax.studies.study_folder import StudyFolder

TUNING = "tuning"
"""The set of a finetuning that choices are made on."""


def chosen_combination(item: Item, study: StudyFolder) -> str:
    """The combination of the search with the best mean over its seeds on the tuning set, of equals the one
    with the lowest loss; the reported sets have no influence. '' without finetuning."""
    finetunings: list[Result] = []
    for finetuning in item.needs:
        result = study.store.result(finetuning)
        if result["stage"] == "recover":
            continue
        if "combination" not in result["fields"]:
            return ""
        finetunings.append(result)
    return best_finetuned(finetunings)


def best_finetuned(finetunings: Iterable[Result]) -> str:
    """The same of the finetunings of one training, of those combinations of which the fewest seeds have
    failed; '' if all have."""
    finished, failed = list[Result](), Counter[object]()
    for result in finetunings:
        if "failed" in result:
            failed[result["fields"]["combination"]] += 1
        else:
            finished.append(result)
    fewest = min((failed[result["fields"]["combination"]] for result in finished), default=0)
    rows: list[Row] = []
    for result in finished:
        if failed[result["fields"]["combination"]] == fewest:
            rows += [{**result["fields"], **row} for row in result["rows"] if row.get("last")]
    return best_combination(rows) if rows else ""


def best_combination(rows: Iterable[Row]) -> str:
    """The same of rows, which are the last evaluations of the finetunings of one training."""
    values: dict[str, dict[str, list[float]]] = {}
    row: Row = {}
    for row in rows:
        if row["set"] == TUNING:
            lists = values.setdefault(str(row["combination"]), {})
            lists.setdefault(str(row["metric"]), []).append(float(row["value"]))
    metric = metric_of(row)
    by_loss = sorted(values, key=lambda each: statistics.fmean(values[each]["loss"]))
    return metric.best(by_loss, lambda each: statistics.fmean(values[each][metric.name]))
