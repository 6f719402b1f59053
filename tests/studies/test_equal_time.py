"""What is said and drawn of sizes at equal time, of stores that are made by hand."""

from __future__ import annotations

import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from scipy import stats

from tests.studies.stores import LARGE, SMALL, compressed, right, trained
from tlc_jax.config.study_options import StudyConfig
from tlc_jax.core.config_document import load_config
from tlc_jax.storage.paths import AnyPath
from tlc_jax.storage.run_directory import STUDY, json_text
from tlc_jax.studies.comparison import show
from tlc_jax.studies.exhibit_pictures import save_pictures
from tlc_jax.studies.exhibits import EXHIBITS
from tlc_jax.studies.exhibits.equal_time import EQUAL_TIME
from tlc_jax.studies.item_store import ItemStore, Result
from tlc_jax.studies.picture import save_panels
from tlc_jax.studies.slack import slack


def said_of_time(store: ItemStore) -> list[str]:
    return EQUAL_TIME.sentences(EQUAL_TIME.rows(store))


def test_sizes_are_compared_at_each_mark_with_holms_correction(tmp_path: Path) -> None:
    near = [1.401, 1.4025, 1.4075]
    values = {
        "1x32": {"1/4": SMALL, "1/2": SMALL, "1": [1.410, 1.412, 1.414]},
        "2x64": {"1/4": LARGE, "1/2": [1.497, 1.502, 1.500], "1": near},
    }
    first, second, third = said_of_time(trained(tmp_path, values, gate=2.0))
    p = [
        stats.ttest_ind(values["1x32"][mark], values["2x64"][mark], equal_var=False).pvalue
        for mark in ("1/4", "1/2", "1")
    ]
    assert p[0] < p[2] < 0.05 < 2 * p[2], "without a correction the last one would count"
    assert first.startswith("At 300 s 2x64 is best, 1.4030 [1.3955, 1.4105]; next 1x32, 1.5030 [")
    assert f": resolved over seeds, p = {3 * p[0]:.2g}" in first
    assert f": not resolved over seeds, p = {max(p[1], 2 * p[2]):.2g}" in second
    assert f": not resolved over seeds, p = {2 * p[2]:.2g}" in third


def test_how_much_longer_the_updates_of_the_best_size_might_take(tmp_path: Path) -> None:
    """By a straight line over the logarithm of time: 1.7 at 300 s, 1.5 at 600 s."""
    best = [[value + change for value in (1.699, 1.7, 1.701)] for change in (0.0, -0.2)]
    other = [[value + change for value in (1.799, 1.8, 1.801)] for change in (0.0, -0.2)]
    values = {size: {"1/4": at[0], "1/2": at[1]} for size, at in (("1x32", other), ("2x64", best))}
    first, second = said_of_time(trained(tmp_path, values, gate=2.0))
    assert first.startswith("At 300 s 2x64 is best")
    assert "times as long" not in first, "it was better from the first mark on"
    assert second.startswith("At 600 s 2x64 is best")
    assert second.endswith(f"; it would be no better if its updates took {2**0.5:.2f} times as long.")


@pytest.mark.parametrize(
    ("timing", "resolved"),
    [
        ({}, False),  # timed once each: known to 1.3
        ({"ratio": 2.5, "ratio_low": 2.4, "ratio_high": 2.6}, True),
        ({"ratio": 2.5, "ratio_low": 2.0, "ratio_high": 3.0}, False),
    ],
)
def test_an_order_that_times_of_updates_may_turn_is_not_resolved(
    tmp_path: Path, timing: dict[str, float], resolved: bool
) -> None:
    """The best falls by 0.2 from 600 s to 1,200 s and is 0.05 ahead: updates 1.19 times as long undo that."""
    values = {
        "1x32": {"1/2": [1.799, 1.8, 1.801], "1": [1.549, 1.55, 1.551]},
        "2x64": {"1/2": [1.699, 1.7, 1.701], "1": [1.499, 1.5, 1.501]},
    }
    store = trained(tmp_path, values, gate=2.0)
    for size, measured in (("1x32", {}), ("2x64", timing)):
        rows = [
            {"metric": name, "value": value} for name, value in ({"mean_seconds": 1.0} | measured).items()
        ]
        fields = {"size": size, "variant": ""}
        store.seal(Result(item=f"timing/{size}", stage="timing", fields=fields, rows=rows, made={}))
    text = said_of_time(store)[-1]
    assert ": resolved over seeds, p = " in text
    assert ("but not resolved over times of an update" in text) is not resolved
    assert f"its updates took {2 ** (0.05 / 0.2):.2f} times as long" in text


@given(
    st.lists(st.integers(1, 500), min_size=3, max_size=8, unique=True),
    st.floats(1.01, 3.0),
    st.floats(10.0, 1000.0),
)
def test_a_model_that_is_as_much_slower_is_as_good_as_the_next(
    losses: list[int], times: float, first: float
) -> None:
    """What a curve that falls has at a second, its slower copy has at a later one."""
    seconds = [first * 2.0**number for number in range(len(losses))]
    falling = sorted(losses, reverse=True)
    level = float(np.interp(np.log(seconds[-1] / times), np.log(seconds), falling))
    found = slack(list(zip(seconds, falling, strict=True)), seconds[-1], level)
    assert found == pytest.approx(times)


def test_models_that_are_no_better_than_counts_are_not_compared(tmp_path: Path) -> None:
    values = {"1x32": {"1/2": [2.1] * 2, "1": SMALL}, "2x64": {"1/2": [1.9] * 2, "1": LARGE}}
    first, second = said_of_time(trained(tmp_path, values, gate=2.0))
    assert first.startswith("Not comparable yet at 600 s (1x32): no better than the target bigram, so counts")
    assert second.startswith("At 1,200 s 2x64 is best")
    above = said_of_time(trained(tmp_path / "above", values, gate=1.3))
    assert len(above) == 1
    assert above[0].startswith("Not comparable yet at 600 s (all sizes); at 1,200 s (all sizes): no better")


@pytest.mark.parametrize(
    ("small", "large", "words"),
    [
        (SMALL[:1], LARGE[:1], "one seed each, so another seed may turn the order"),
        (SMALL, LARGE[:1], "one seed of one of them, so another seed may turn the order"),
    ],
)
def test_single_trainings_resolve_nothing(
    tmp_path: Path, small: list[float], large: list[float], words: str
) -> None:
    [text] = said_of_time(trained(tmp_path, {"1x32": {"1": small}, "2x64": {"1": large}}))
    assert words in text
    assert "resolved" not in text


def test_seconds_of_different_devices_never_share_an_axis(tmp_path: Path) -> None:
    values = {size: {"1/2": SMALL, "1": SMALL} for size in ("1x32", "2x64", "3x96")}
    store = trained(tmp_path, values, devices={"3x96": "1 x H100"})
    rows = EQUAL_TIME.rows(store)
    assert {row["size"] for row in rows} == {"1x32", "2x64"}
    assert said_of_time(store)[-1] == (
        "Left out are runs of other devices, whose seconds are not comparable: 1 x H100."
    )
    for size in values:  # where updates are counted, seconds are those of the device that timed them
        about: dict[str, Any] = {"stage": "timing", "fields": {"size": size, "variant": ""}}
        row = {"metric": "mean_seconds", "value": 0.1}
        store.seal({"item": f"timing/{size}", **about, "rows": [row], "made": {"device": "1 core"}})
    assert {row["size"] for row in EQUAL_TIME.rows(store)} == set(values)
    assert "Left out" not in " ".join(said_of_time(store))


def test_all_exhibits_are_drawn_and_an_empty_store_is_said_to_be_empty(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    console = Console(width=200)
    show(ItemStore(tmp_path / "none"), tmp_path, console)
    assert "holds no evaluation of a finished run" in capsys.readouterr().out
    assert not (tmp_path / "study.png").exists()
    trained(tmp_path, {"1x32": {"1/2": SMALL, "1": SMALL}, "2x64": {"1": LARGE}}, gate=2.0)
    models = {("1x32", 8, 9.0): (0.5, [0.5], [right(10)])}
    store = compressed(tmp_path, "accuracy", models, gate=("linear", 0.4))
    (tmp_path / STUDY).write_text(json_text(asdict(load_config("study_translation", StudyConfig))))
    show(store, tmp_path, console)
    printed = capsys.readouterr().out
    assert "1.4030 [1.3955, 1.4105] *" in printed
    assert "0.5000  9 kB" in printed
    assert (tmp_path / "study.png").read_bytes().startswith(b"\x89PNG")
    assert "<html" in (tmp_path / "study.html").read_text(encoding="utf-8")
    assert len(EXHIBITS) == len({exhibit.name for exhibit in EXHIBITS})


def test_a_picture_has_an_axis_for_each_exhibit(tmp_path: Path) -> None:
    """A size whose name would be typeset is shown as it is."""
    rows = EQUAL_TIME.rows(trained(tmp_path, {"1x32": {"1": SMALL}}))
    variants = [{**row, "variant": "data_$1$"} for row in rows]
    save_panels([(EQUAL_TIME.draw, variants), (EQUAL_TIME.draw, rows)], tmp_path / "two.svg")
    text = (tmp_path / "two.svg").read_text()
    assert text.count('id="axes_') == 2


def test_an_exhibit_of_several_plots_has_a_picture_of_its_own(tmp_path: Path) -> None:
    """Exhibits of one plot share a picture: three in a line, four in two lines of two."""
    one = replace(EQUAL_TIME, draw=lambda axes, rows: None)
    lines = replace(one, name="many lines", panels=lambda rows: [[rows, rows], [rows]])
    pictures = save_pictures([*[(one, [{}])] * 4, (lines, [{}])], tmp_path / "study.svg")
    assert pictures == {"": tmp_path / "study.svg", "many lines": tmp_path / "study_many_lines.svg"}
    assert size_and_axes(pictures[""]) == (2 * 396, 2 * 324, 4)
    for count, plots in ((1, (1, 1)), (3, (3, 1)), (5, (3, 2)), (7, (3, 3))):
        save_panels([(one.draw, [{}])] * count, tmp_path / "shared.svg")
        width, height, _ = size_and_axes(tmp_path / "shared.svg")
        assert (width, height) == (396 * plots[0], 324 * plots[1])
    assert size_and_axes(pictures["many lines"]) == (2 * 396, 2 * 324, 4)
    assert list(save_pictures([(lines, [{}])], tmp_path / "alone.svg")) == ["many lines"]
    assert not (tmp_path / "alone.svg").exists()


def size_and_axes(path: AnyPath) -> tuple[int, int, int]:
    """Width and height in points, and the number of plots, empty ones included."""
    text = path.read_text()
    [(width, height)] = re.findall(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', text)
    return int(float(width)), int(float(height)), text.count('id="axes_')
