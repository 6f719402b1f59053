"""The page of a report: what its JSON says, that no text becomes markup, and that it stays small."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import re
import shlex
import shutil
from collections import defaultdict
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats

from tests.project.documents import ROOT
from tests.studies.pages import GPU, HOSTILE, QUICKSTART, TRANSLATION, Elements, run_of, written
from tlc_jax import report, study
from tlc_jax.config import Config
from tlc_jax.config.study_options import StudyConfig
from tlc_jax.core import cli
from tlc_jax.core.config_document import load_config
from tlc_jax.core.errors import UserError
from tlc_jax.storage.paths import parse_path
from tlc_jax.storage.run_directory import write_json
from tlc_jax.studies.item_store import ItemStore
from tlc_jax.studies.items import items_of
from tlc_jax.studies.page.budget_choices import choices_of, times_of
from tlc_jax.studies.page.learning_points import Training, thinned
from tlc_jax.studies.page.page_html import script_json
from tlc_jax.studies.page.study_part import Commands
from tlc_jax.studies.plan_record import Plan, PlannedDifference, PlannedRecipe, PlannedSize, write_plan

ROW = dict[str, Any]


@pytest.fixture(scope="module")
def gpu(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Elements]:
    return written(tmp_path_factory.mktemp("page"), GPU)


def compressed_rows(store: Path) -> list[ROW]:
    """The rows of compressed models as their files have them, read without the project."""
    items = [json.loads(path.read_text()) for path in (store / "items").rglob("*.json")]
    return [
        {**item["fields"], **row} for item in items if item["stage"] == "compress" for row in item["rows"]
    ]


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Elements]:
    folder = tmp_path_factory.mktemp("pages")
    return written(folder, QUICKSTART, run_of(folder / "a", [2.0]), run_of(folder / "b", [1.0]))


@pytest.mark.parametrize(("name", "store"), [("gpu", GPU), ("several", QUICKSTART)])
def test_each_choice_is_the_best_of_its_bytes(name: str, store: Path, request: pytest.FixtureRequest) -> None:
    """Against a search through all rows of the store: the lowest value on the set that is chosen on."""
    part = request.getfixturevalue(name)[1].data["parts"][0]
    values, sizes, reported = defaultdict(list), {}, defaultdict(list)
    for row in compressed_rows(store):
        if row["metric"] == "nats_per_byte" and row["role"] in ("reported", "both") and row["mark"] == "1":
            reported[row["size"], row["bits"], row["sparsity"]].append(row["value"])
        if row["metric"] == "nats_per_byte" and row["role"] in ("tuning", "both") and row["mark"] == "1":
            key = row["size"], row["bits"], row["sparsity"]
            values[key].append(row["value"])
            sizes[key] = row["file_bytes"]
    assert part["choices"][-1]
    for choice in part["choices"][-1]:
        fitting = [key for key in values if sizes[key] <= choice["limit"]]
        size, bits, _ = min(fitting, key=lambda key: np.mean(values[key]))
        chosen = {name: column[choice["file"]] for name, column in part["files"].items()}
        assert part["models"][choice["model"]] == part["models"][chosen["model"]] == size
        assert chosen["recipe"].endswith(f"{bits} bits" if bits < 32 else "uncompressed")
        assert not chosen["estimated"]
        if gate := re.search(
            r"no model is good enough yet: the \D* reaches ([\d.]+), and the best", choice["head"]
        ):
            assert min(np.mean(reported[key]) for key in fitting) >= float(gate[1])
            assert choice["value"].startswith(f"The best is {size}, ")
        else:
            assert f"train {size} and " in choice["head"]
        if choice["next"] is not None:
            assert part["files"]["model"][choice["next"]] != choice["model"]


def test_uncompressed_models_are_compared_where_others_are_estimates() -> None:
    """At half the time of the study of translation, for any bytes: over its three trainings."""
    store = parse_path(str(TRANSLATION))
    [time] = [time for time in times_of(ItemStore(store)) if time.mark == "1/2"]
    last = choices_of(time)[-1]
    values = {str(row["size"]): model.values for model in time.dense for row in model.rows[:1]}
    assert last.next
    one, other = values[last.model], values[last.next.file.size]
    assert f"The first minus the second is {np.mean(one) - np.mean(other):+.4f} [" in last.against
    _, p = scipy.stats.ttest_ind(one, other, equal_var=False)
    assert f"p = {p:.2g} over trainings" in last.against
    estimated = [each for each in choices_of(time) if each.chosen and each.chosen.estimated]
    assert any(
        "Not tested, since what compression costs was measured at another time" in c.against
        for c in estimated
    )


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("errors_by_module", "no models to choose from after a time of training: its results are below"),
        ("minilm_search", "No model is finished yet. What is measured so far is below"),
    ],
)
def test_studies_that_choose_no_size_say_so(name: str, words: str, tmp_path: Path) -> None:
    assert words in written(tmp_path, TRANSLATION.parent / name)[1].text


def test_what_was_compressed_at_another_time_is_an_estimate(gpu: tuple[str, Elements]) -> None:
    """The store has compressed models after the whole time alone; before, the value of the dense model and
    the loss by compression are added."""
    [part] = gpu[1].data["parts"]
    rows, dense = compressed_rows(GPU), {}
    for path in (GPU / "items").rglob("*.json"):
        item = json.loads(path.read_text())
        if item["stage"] == "branch":
            last = [row for row in item["rows"] if row["last"] and row["metric"] == "nats_per_byte"]
            dense[item["fields"]["size"], float(Fraction(item["fields"]["mark"]))] = last[0]["value"]
    tuned = {
        (row["size"], row["bits"]): row["value"]
        for row in rows
        if row["metric"] == "nats_per_byte" and row["role"] == "tuning"
    }
    marks = sorted({mark for _, mark in dense})
    files = [dict(zip(part["files"], row, strict=True)) for row in zip(*part["files"].values(), strict=True)]
    assert {file["time"] for file in files if file["estimated"]} == {0, 1, 2}
    for file in files:
        if file["estimated"]:
            size, bits = part["models"][file["model"]], int(file["recipe"].split()[0])
            wanted = dense[size, marks[file["time"]]] + tuned[size, bits] - tuned[size, 32]
            assert file["value"] == pytest.approx(wanted, rel=1e-5)
            assert file["low"] is None
    assert part["files_on"] == "multi30k_en_fr.test2016"
    assert part["estimates"].endswith("and their values are those on multi30k_en_fr.val.")


def test_the_page_says_without_scripts_what_it_says_with_them(gpu: tuple[str, Elements]) -> None:
    _, page = gpu
    [part] = page.data["parts"]
    time, limit = part["start"]
    fitting = [each for each in part["choices"][time] if each["limit"] <= part["limits"][limit]["value"]]
    for words in (
        fitting[-1]["value"],
        fitting[-1]["against"],
        "For 40 s of training and files of up to 7.89 MB",
    ):
        assert words in page.text
    assert fitting[-1]["value"] == (
        "0.2091 nats per byte on multi30k_en_fr.test2016, 7.65 MB; of a single training, so without an "
        "interval."
    )
    assert len(page.of("svg")) >= 4, "pictures of matplotlib"
    assert "1 x NVIDIA H200" in page.text
    markdown = (ROOT / "docs" / "results" / "translation_gpu.md").read_text(encoding="utf-8")
    markdown = markdown.replace("+-", "\N{PLUS-MINUS SIGN}")
    said = [line.removeprefix("* ") for line in markdown.splitlines() if line.startswith("* ")]
    assert len(said) > 20
    assert not [sentence for sentence in said if sentence not in page.text], "the same sentences"


def test_nothing_leaves_the_page_and_only_its_scripts_run(gpu: tuple[str, Elements]) -> None:
    text, page = gpu
    policy = next(each["content"] for each in page.of("meta") if each.get("http-equiv"))
    assert policy.startswith("default-src 'none'; ")
    assert "connect-src" not in policy
    assert "unsafe" not in policy.replace("style-src 'unsafe-inline'", "")
    scripts = re.findall(r"<script>(.*?)</script>", text, flags=re.DOTALL)
    assert len(scripts) == 2
    for script in scripts:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
    for tag, attributes in page.elements:
        assert tag not in ("link", "iframe", "object", "base", "form")
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in ("src", "href", "xlink:href", "action"):
                assert re.match(r"(data:image/png|#|[^:/]*$|[^:]*/$)", value), value


def test_each_point_has_the_command_that_makes_it_again(gpu: tuple[str, Elements]) -> None:
    [part] = gpu[1].data["parts"]
    files = part["files"]
    for model, recipe, command in zip(files["model"], files["recipe"], files["command"], strict=True):
        words = part["commands"][command]
        assert f"--config study_translation:gpu --workdir W --sizes {part['models'][model]} " in words
        assert f"--bits {recipe.split()[0]}" in words.replace("--bits 32", "--bits uncompressed")


@pytest.mark.parametrize(("model", "seeds"), [("4x256", (100,)), ("2x64", (100, 300, 500))])
def test_the_command_of_a_model_trains_it_alone(model: str, seeds: tuple[int, ...]) -> None:
    """Of an oversized one, too, in a study that prunes in rounds."""
    commands = Commands(load_config("study_translation", StudyConfig))
    commands.dense(model, seeds)
    [command] = commands.numbers
    settings = cli.parse(study.Study, shlex.split(command.partition("tlc_jax.study ")[2])).settings
    wanted = {("train", model, seed) for seed in seeds} | {("timing", model, None)}
    items = [item for item in items_of(settings) if item.stage in ("train", "timing")]
    assert {(item.stage, item.fields["size"], item.fields.get("seed")) for item in items} == wanted
    assert not any(item.stage == "recover" for item in items_of(settings))


@pytest.mark.parametrize("kind", ["study", "run"])
def test_text_of_others_stays_text(kind: str, tmp_path: Path) -> None:
    name = HOSTILE.replace("/", "\u2215")  # a path cannot have it
    if kind == "study":
        folder = tmp_path / name
        shutil.copytree(QUICKSTART, folder)
        (folder / "notes.md").write_text(f"{HOSTILE}\n\n[x](javascript:alert(3)) ![y](http://z/y.png) *so*")
    else:
        folder = run_of(tmp_path / name, [2.0, 1.5], python=HOSTILE, platform=HOSTILE)
    text, page = written(tmp_path, folder)
    scripts = page.of("script")
    assert [each.get("type") for each in scripts] == ["application/json", None, None]
    assert "\u2028" not in text
    assert not [a for _, a in page.elements if any(each.startswith("on") for each in a)]
    assert "alert(1)" in page.text
    assert [each for each in page.of("a") if each["href"].startswith("javascript")] == []
    assert all(each["src"].startswith("data:image/png") for each in page.of("img"))
    if kind == "study":
        assert "so" in [data for tag, data in page.texts if tag == "em"], "notes are Markdown"


def test_json_of_the_page_cannot_end_its_element() -> None:
    page: Any = {"schema": 1, "parts": [{"name": f"{HOSTILE}<!--\u2029\ud800"}]}
    text = script_json(page)
    assert not set("<>&\u2028\u2029") & set(text)
    assert text.isascii()
    assert json.loads(text) == page


@pytest.mark.parametrize("values", [[], [1.5]])
def test_a_run_with_no_evaluation_or_one(values: list[float], tmp_path: Path) -> None:
    _, page = written(tmp_path, run_of(tmp_path / "young", values))
    assert ("No evaluation yet: young." if not values else "young reaches 1.5 nats per byte") in page.text
    assert len(page.data["parts"][0]["curves"]) == len(values)


@pytest.mark.parametrize(("values", "drawn"), [([2.0, 1.5, float("nan")], 2), ([float("inf")] * 2, 0)])
def test_a_run_that_diverged(tmp_path: Path, values: list[float], drawn: int) -> None:
    """Neither JSON nor an axis has a place for what is not finite."""
    runs = [run_of(tmp_path / "diverged", values), run_of(tmp_path / "run", [2.0, 1.0])]
    _, page = written(tmp_path, *runs)
    curves = page.data["parts"][0]["curves"]
    assert sum(len(curve["values"]) for curve in curves) == drawn + 2


def test_many_runs(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    runs = [run_of(tmp_path / f"run{n}", list(rng.random(40))) for n in range(200)]
    _, page = written(tmp_path, *runs)
    curves = page.data["parts"][0]["curves"]
    assert len(curves) == 200
    points = sum(len(curve["values"]) for curve in curves)
    assert points <= 4000
    assert f"Of 8,000 evaluations {points:,} are drawn" in page.text
    best = min(
        range(200),
        key=lambda n: json.loads((runs[n] / "metrics.jsonl").read_text().splitlines()[-1])[
            "eval/held_out/nats_per_byte"
        ],
    )
    assert f"Of 200 runs run{best} ends best" in page.text
    assert "and 180 folders more" in page.text


@pytest.mark.parametrize("most", [10, 100, 999])
def test_points_are_thinned_evenly_over_the_logarithm(most: int) -> None:
    long = [{"step": step, "value": 1.0} for step in range(1, 10_001)]
    trainings = [Training(str(n), "", "run", 0, "", long if n else long[:3]) for n in range(3)]
    kept = [training.points for training in thinned(trainings, most)]
    assert sum(map(len, kept)) <= most
    for before, after in zip(trainings, kept, strict=True):
        assert [after[0], after[-1]] == [before.points[0], before.points[-1]]
    if most > 10:
        assert len(kept[0]) == 3
        ratios = np.diff(np.log([point["step"] for point in kept[2] if point["step"] > 100]))
        assert ratios.max() < 2 * np.log(10_000) / (most / 2 - 2)


def test_several_studies_and_runs_have_a_part_each(several: tuple[str, Elements]) -> None:
    text, page = several
    assert [part["name"] for part in page.data["parts"]] == ["quickstart study", "Runs"]
    assert len(page.of("section")) == 2
    assert len(page.of("h1")) == 1
    identities = re.findall(r' id="([^"]*)"', text)
    assert len(identities) == len(set(identities))
    links = [each["href"] for each in page.of("a")]
    assert {"a/", "b/"} <= set(links), "relative to the page"


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{0}", "holds no run, study or plan: give the --workdir of one"),
        ("{1} --output {0}/a.png", "is a picture: python -m tlc_jax.report curves draws the curves of runs"),
        ("{1} --output {0}/a.txt", "is no page: end it in .html"),
        ("{1} --port 80", "--port 80 is that of --serve: add it"),
    ],
)
def test_what_is_refused(line: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["/x/tlc_jax/report.py"])
    with pytest.raises(UserError, match=re.escape(says)):
        report.main(line.format(tmp_path, QUICKSTART).split())


def test_runs_of_different_metrics_are_not_drawn_together(tmp_path: Path) -> None:
    one, other = run_of(tmp_path / "a", [2.0]), run_of(tmp_path / "b", [1.0])
    metrics = other / "metrics.jsonl"
    metrics.write_text(metrics.read_text().replace("nats_per_byte", "matthews"))
    with pytest.raises(UserError, match="matthews on held_out, nats_per_byte on held_out"):
        written(tmp_path, one, other)


def test_a_plan_stands_beside_what_was_obtained(tmp_path: Path) -> None:
    """Two sizes with two recipes each, and a run of one of them in the plan's folder."""
    folder = tmp_path / "plan"
    config = load_config("quickstart", Config)
    size = f"{config.model.num_layers}x{config.model.hidden_size}"
    sizes = (
        planned_size("1x8", 1.2, 1e5, "worse"),
        planned_size("2x8", 1.3, 1.9e6, "undecided"),
        planned_size(size, 1.0, 4e5, "chosen"),
    )
    run = run_of(folder / "run", [1.5, 1.02], seconds=1800.0)
    write_json(run / "config.json", dataclasses.asdict(config))
    write_plan(
        Plan(
            *(1.0, 0.3, "two cores", "nats_per_byte", "held_out", sizes, {"E": (0.5, 0.4, 0.6)}, 20),
            notes=("Each token counts as new.",),
            commands=("python -m tlc_jax.train --config x.py",),
            made={"commit": "abc"},
            differences=(PlannedDifference((2, 1), (0, 0), 0.1, 0.04, 0.2),),
        ),
        folder / "plan.json",
    )
    _, page = written(tmp_path, folder)
    [part] = page.data["parts"]
    heads = [choice["head"] for choice in part["choices"][0]]
    assert [re.findall(r"train (\S+) and (.*)\.", head)[0] for head in heads] == [
        ("1x8", "keep it at 4 bits"),
        (size, "keep it at 4 bits"),
        (size, "keep it at 4 bits"),  # for the bytes that were asked for
        (size, "leave it uncompressed"),
    ]
    assert [choice["limit"] for choice in part["choices"][0]] == [5e4, 2e5, 3e5, 8e5]
    against = [choice["against"] for choice in part["choices"][0]]
    assert against[1].endswith(
        "1x8, uncompressed: predicted 1.2000 [1.1500, 1.2500], +0.1000 [+0.0400, +0.2000] beside the first."
    )
    assert against[2] == f"{against[1]} 2x8 may be as good, too."
    assert against[3].endswith("predicted 1.2000 [1.1500, 1.2500]."), "not compared, so nothing is said"
    assert "files of up to 300 kB, train" in page.text, "the limit of the plan"
    assert f"{size} was predicted at 1.0000 [0.9500, 1.0500] and has reached 1.0200, inside" in page.text
    for words in (
        "Each token counts as new.",
        "python -m tlc_jax.train --config x.py",
        "two cores",
        "-2.0 %",
    ):
        assert words in page.text


def planned_size(size: str, loss: float, file_bytes: float, verdict: Any) -> PlannedSize:
    recipes = tuple(
        PlannedRecipe(bits, 0.0, loss + rise, loss + rise - 0.05, loss + rise + 0.05, number, number, True)
        for bits, rise, number in ((32, 0.0, 2 * file_bytes), (4, 0.1, file_bytes / 2))
    )
    return PlannedSize(
        *(size, int(file_bytes), 0.1, "measured", 2, 200.0, 1.0, loss, loss - 0.05, loss + 0.05, recipes, 1),
        difference=(0.3, -0.1, 0.7) if verdict == "undecided" else None,
        verdict=verdict,
    )
