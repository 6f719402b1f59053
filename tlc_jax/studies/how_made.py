"""How the results of a study were made, for the reader of its page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from tlc_jax.config.study_options import StudyConfig
from tlc_jax.core.printable import counted
from tlc_jax.storage.paths import AnyPath
from tlc_jax.studies.failed_items import failed_items
from tlc_jax.studies.item_store import ItemStore, Result
from tlc_jax.studies.items import Item, timing_of
from tlc_jax.studies.study_record import read_config


def config_of(study: AnyPath) -> StudyConfig:
    """The config of the study in a folder that holds one."""
    config = read_config(study)
    assert config is not None, f"{study} holds no study"
    return config


def how_made(store: ItemStore) -> dict[str, str]:
    """By which commits, versions and devices, when, and from how many seeds."""
    results = list(store.results())
    made = [result["made"] for result in results]
    dates = sorted(str(each["date"])[:10] for each in made if "date" in each)
    seeds = {str(result["fields"]["seed"]) for result in results if "seed" in result["fields"]}
    given = [result["fields"] for result in results if result["stage"] == "pretrained"]
    lines = {
        "pretrained": "; ".join(
            f"{each['size']} is {each['checkpoint_name']} ({str(each['checkpoint'])[:16]})" for each in given
        ),
        "items": _by_stage(Counter(result["stage"] for result in results)),
        "of which failed": _by_stage(failed_items(store)),
        f"seeds of {'finetuning' if given else 'training'}": ", ".join(sorted(seeds)),
        "updates timed": "; ".join(_timings(results)),
        "devices": "; ".join(_distinct(made, "device")),
        "commits": ", ".join(_distinct(made, "commit")),
        "dates": " to ".join(dict.fromkeys((dates[0], dates[-1]))) if dates else "",
        "jax": ", ".join(dict.fromkeys(str(each.get("packages", {}).get("jax")) for each in made)),
    }
    return {name: text for name, text in lines.items() if text}


def _timings(results: list[Result]) -> Iterator[str]:
    """How long an update takes by each timing, of which commit, and how many trainings are counted by it."""
    counted_by = ("train", "distil")
    trainings = [Item(r["item"], r["stage"], r["fields"]) for r in results if r["stage"] in counted_by]
    used = Counter(item.fields.get("timing", timing_of(item)) for item in trainings)
    for result in results:
        if result["stage"] != "timing":
            continue
        values = {row["metric"]: row["value"] for row in result["rows"]}
        if seconds := values.get("mean_seconds"):  # else it has failed
            model, commit = result["item"].partition("/")[2], result["made"].get("commit")
            runs, ratio = counted(used[result["item"]], "training"), ""
            other = str(result["fields"].get("reference", "")).partition("/")[2]
            if other and {"ratio", "ratio_low", "ratio_high"} <= values.keys():
                ends = f"{values['ratio_low']:.3g}, {values['ratio_high']:.3g}"
                ratio = f" ({values['ratio']:.3g} [{ends}] times that of {other}, in turns)"
            yield f"{model} {1000 * seconds:.4g} ms{ratio} by {commit}, for {runs}"


def _by_stage(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {stage}" for stage, count in counts.items())


def _distinct(made: list[dict[str, Any]], name: str) -> list[str]:
    return list(dict.fromkeys(str(each[name]) for each in made if each.get(name)))
