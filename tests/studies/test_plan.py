"""`plan`: its answers against the laws that pilots were made with, its refusals, and what it writes."""

import dataclasses
import json
import math
import re
import shutil
from pathlib import Path
from typing import Any

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from tests.studies import plan_stores as stores
from tlc_jax import plan
from tlc_jax.config import CompressConfig, Config, StudyConfig
from tlc_jax.config.document_text import document_text
from tlc_jax.config.plan_options import PlanConfig
from tlc_jax.core.config_document import load_config
from tlc_jax.core.errors import UserError
from tlc_jax.storage.run_directory import RunDir, write_json
from tlc_jax.studies import plan_command
from tlc_jax.studies.law_intervals import FittedLaw, fit_with_intervals
from tlc_jax.studies.pilot_study import pilot_study
from tlc_jax.studies.plan_record import (
    Plan,
    PlannedRecipe,
    PlannedSize,
    best_files,
    predicted_and_obtained,
    read_plan,
)
from tlc_jax.studies.scaling_law import Points

SIZES = tuple(stores.PARAMETERS)


@pytest.fixture(autouse=True)
def _few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """And one fit for all tests of the same pilot."""
    monkeypatch.setattr(plan_command, "fit_with_intervals", fitted)


FITTED: dict[bytes, FittedLaw] = {}


def fitted(points: Points) -> FittedLaw:
    key = points.losses.tobytes()
    if key not in FITTED:
        FITTED[key] = fit_with_intervals(points, draws=60)
    return FITTED[key]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pilot and timing files that all tests read."""
    folder = tmp_path_factory.mktemp("plan")
    stores.pilot(folder / "pilot")
    stores.timing_files(folder / "times")
    return folder


def planned(folder: Path, out: Path, *options: str, hours: float = 1.0, megabytes: float = 100.0) -> Plan:
    files = sorted(map(str, (folder / "times").glob("*.json")))
    given = ["--config", "quickstart_study", "--workdir", str(out), "--store", str(folder / "pilot")]
    given += ["--hours", str(hours), "--target-mb", str(megabytes)]
    if "--sizes" not in options:
        given += ["--sizes", *SIZES]
    if not {"--device-file", "--peak-tflops"} & {*options}:
        given += ["--device-file", *files]
    plan.main([*given, *options])
    return read_plan(out)


def true_best(seconds: float, megabytes: float) -> tuple[str, int]:
    """By the laws that the pilot was made with."""
    losses = {
        (size, bits): stores.loss(size, tokens) * stores.rise(bits, size, tokens)
        for size in SIZES
        for tokens in [stores.tokens_in(size, seconds)]
        for bits in stores.BITS
        if stores.file_bytes(size, bits) <= 1e6 * megabytes
    }
    return min(losses, key=losses.__getitem__)


@pytest.mark.parametrize(("hours", "megabytes"), [(0.15, 0.5), (1.0, 2.0)])
def test_the_best_size_is_chosen(folder: Path, tmp_path: Path, hours: float, megabytes: float) -> None:
    made = planned(folder, tmp_path / "plan", hours=hours, megabytes=megabytes)
    size, bits = true_best(3600 * hours, megabytes)
    assert size in [each.size for each in made.candidates]
    named = next(each for each in made.sizes if each.size == size)
    recipe = named.best_recipe
    assert recipe is not None
    assert recipe.bits == bits
    for each in made.sizes:
        tokens = stores.tokens_in(each.size, 3600 * hours)
        assert each.tokens == tokens
        assert each.low <= stores.loss(each.size, tokens) <= each.high
        for recipe in each.recipes:
            assert recipe.file_bytes == stores.file_bytes(each.size, recipe.bits)
            true = stores.loss(each.size, tokens) * stores.rise(recipe.bits, each.size, tokens)
            assert 0.999 * recipe.low <= true <= 1.001 * recipe.high


def test_documents_and_commands(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = planned(folder, tmp_path / "plan", hours=0.5, megabytes=0.5)
    train = load_config(str(tmp_path / "plan" / "train_config.py"), Config)
    size = f"{train.model.num_layers}x{train.model.hidden_size}"
    assert size == made.chosen.size
    assert (train.budget.training_seconds, train.schedule.cooldown, train.checkpoint.marks) == (1800, 0.2, "")
    rate = stores.study(SIZES).train_of(size).optimizer.learning_rate
    assert train.optimizer.learning_rate == pytest.approx(rate)
    compress = load_config(str(tmp_path / "plan" / "compress_config.py"), CompressConfig)
    recipe = made.chosen.best_recipe
    assert recipe is not None
    assert (compress.bits, compress.sparsity, compress.granularity) == (recipe.bits, 0.0, "row")
    printed = capsys.readouterr().out
    assert all(line in printed for line in made.commands)
    assert "1 x another device" in printed


def test_equal_sizes_are_not_told_apart(folder: Path, tmp_path: Path) -> None:
    """Bytes for which two sizes are as good as each other by the laws, within what pilots can tell."""

    def apart(seconds: float) -> float:
        small, large = (stores.loss(size, stores.tokens_in(size, seconds)) for size in ("2x64", "2x128"))
        return abs(small - large)

    seconds = min(np.geomspace(100, 4000, 200), key=apart)
    made = planned(folder, tmp_path / "plan", hours=float(seconds) / 3600)
    assert {"2x64", "2x128"} <= {each.size for each in made.candidates}


def test_a_device_that_is_not_here_is_estimated(folder: Path, tmp_path: Path) -> None:
    peak = ("--peak-tflops", "0.05", "--utilisation")
    narrow = planned(folder, tmp_path / "a", *peak, "0.2", "0.2", hours=0.5)
    wide = planned(folder, tmp_path / "b", *peak, "0.05", "0.8", hours=0.5)
    assert "estimate" in wide.device
    assert any("estimated" in note for note in wide.notes)
    for one, other in zip(narrow.sizes, wide.sizes, strict=True):
        assert one.speed == "estimated"
        assert one.step_seconds == pytest.approx(other.step_seconds)
        assert one.high - one.low < other.high - other.low


def refusal(tmp_path: Path, *options: str, hours: float = 0.5, **changes: object) -> str:
    """What `plan` says of a pilot that differs in some way."""
    stores.pilot(tmp_path / "pilot", **changes)  # pyright: ignore[reportArgumentType]
    stores.timing_files(tmp_path / "times")
    with pytest.raises(UserError) as error:
        planned(tmp_path, tmp_path / "plan", *options, hours=hours)
    assert not (tmp_path / "plan").exists()
    return str(error.value)


def test_fewer_than_eight_points(tmp_path: Path) -> None:
    text = refusal(tmp_path, marks=("1/8", "1"))
    assert "4 usable points of 4 sizes, and a plan needs 8 of 3" in text


def test_fewer_than_three_sizes(tmp_path: Path) -> None:
    text = refusal(tmp_path, "--sizes", "1x32", "2x64", sizes=("1x32", "2x64"))
    assert "of 2 sizes, and a plan needs 8 of 3" in text


def test_more_than_eight_times_as_long(tmp_path: Path) -> None:
    text = refusal(tmp_path, hours=2.0)
    assert "12.0 times the tokens of its longest pilot, and a plan reaches 8 times" in text
    assert "a pilot of 15 min 00 s for each size" in text
    assert "--hours 1.3" in text


def test_hours_that_a_refusal_names_are_accepted(folder: Path, tmp_path: Path) -> None:
    """Rounded down where there are too many, and up where there are too few."""
    for hours in (2.3, 0.002):
        with pytest.raises(UserError) as error:
            planned(folder, tmp_path / "refused", hours=hours)
        named = re.search(r"--hours (\S+)", str(error.value))
        assert named
        assert planned(folder, tmp_path / str(hours), hours=float(named[1])).sizes


def test_less_time_than_the_law_is_fitted_to(tmp_path: Path) -> None:
    """What is soon after the warm-up falls along another curve."""
    text = refusal(tmp_path, hours=0.01)
    assert re.match(r"in 0.01 h \S+ sees 0.06 of the tokens of its longest pilot", text)
    assert "fitted to trainings of at least 0.25 of it: give --hours 0.033 or more" in text


def test_a_device_that_may_be_fast_enough_for_too_many_tokens(folder: Path, tmp_path: Path) -> None:
    """An estimate is a range: its fast end counts."""
    peak = ("--peak-tflops", "0.05", "--utilisation")
    planned(folder, tmp_path / "one", *peak, "0.2", "0.2", hours=1.5)
    with pytest.raises(UserError, match=r"times the tokens of its longest pilot, and a plan reaches 8"):
        planned(folder, tmp_path / "other", *peak, "0.04", "1", hours=1.5)


def test_trainings_of_one_length(tmp_path: Path) -> None:
    """Which say nothing of how far longer ones are missed."""
    sizes = tuple(stores.PARAMETERS)
    for number in range(3):
        stores.pilot(tmp_path / f"seed{number}", sizes, marks=("1",), noise=0.002 * (number + 1))
    more = [str(tmp_path / f"seed{number}") for number in range(3)]
    stores.timing_files(tmp_path / "times")
    with pytest.raises(UserError) as error:
        planned(tmp_path, tmp_path / "plan", "--store", *more)
    assert "a shorter and a longer training of 0 sizes, and a plan needs them of 3" in str(error.value)


def test_the_same_trainings_twice(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder / "pilot", tmp_path / "copy")
    for other in (copy, folder / "pilot"):
        with pytest.raises(UserError, match="both hold the same 1x32/seed0/at-1"):
            planned(folder, tmp_path / "plan", "--store", str(folder / "pilot"), str(other))


def test_a_pilot_is_trained_with_all_seeds(tmp_path: Path) -> None:
    """So the minutes that a refusal names are those of all trainings."""
    text = refusal(tmp_path, "--seeds", "1", "2", "3", hours=2.0)
    minutes = re.search(r"--pilot-minutes (\d+) for 4 sizes and 3 seeds", text)
    assert minutes
    config = dataclasses.replace(stores.study(SIZES), sizes=SIZES, seeds=(1, 2, 3))
    seconds = pilot_study(config, float(minutes[1])).train.budget.training_seconds
    assert seconds == pytest.approx(900, rel=0.01), "15 min 00 s for each size"


def test_wrong_pilots_are_refused_before_another_is_trained(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan_command, "work", lambda study: pytest.fail("a pilot is trained"))
    longer = ("--pilot-minutes", "60")
    with pytest.raises(UserError, match="holds no study"):
        planned(folder, tmp_path / "plan", *longer, "--store", str(tmp_path / "none"))
    with pytest.raises(UserError, match="is not a timing file"):
        planned(folder, tmp_path / "plan", *longer, "--device-file", str(tmp_path / "none.json"))


def test_one_size_is_planned_alone_and_that_of_a_training_for_all(folder: Path, tmp_path: Path) -> None:
    [size] = planned(folder, tmp_path / "one", "--sizes", "2x64").sizes
    assert size.size == "2x64"
    times = sorted(map(str, (folder / "times").glob("*.json")))
    training = tmp_path / "training.py"
    training.write_text(document_text(load_config("quickstart_study", StudyConfig).train, "One training."))
    given = ["--config", str(training), "--workdir", str(tmp_path / "all"), "--store", str(folder / "pilot")]
    given += [
        "--rate-scaling",
        "sqrt_width",
        "--compression.granularity",
        "row",
        "--compression.range",
        "mse",
    ]
    plan.main([*given, "--hours", "1", "--target-mb", "100", "--device-file", *times])
    assert [each.size for each in read_plan(tmp_path / "all").sizes] == list(SIZES)


def test_a_plan_whose_training_has_begun_is_kept(folder: Path, tmp_path: Path) -> None:
    made = planned(folder, tmp_path / "plan")
    assert planned(folder, tmp_path / "plan", hours=0.5) != made, "nothing was trained by it"
    (tmp_path / "plan" / "run").mkdir()
    kept = {path.name: path.read_bytes() for path in (tmp_path / "plan").iterdir() if path.is_file()}
    with pytest.raises(UserError, match="has a plan whose training has begun"):
        planned(folder, tmp_path / "plan")
    assert {name: (tmp_path / "plan" / name).read_bytes() for name in kept} == kept


def test_a_file_is_no_folder_for_a_plan(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "plan").write_text("mine")
    with pytest.raises(UserError, match="plan is a file: name a folder"):
        planned(folder, tmp_path / "plan")


@pytest.mark.parametrize("hours", [float("inf"), 1e300])
def test_more_hours_than_anybody_has(folder: Path, tmp_path: Path, hours: float) -> None:
    with pytest.raises(UserError, match="--hours must be above 0 and at most 1,000,000"):
        planned(folder, tmp_path / "plan", hours=hours)


def test_more_than_four_times_as_large(tmp_path: Path) -> None:
    text = refusal(tmp_path, "--sizes", "2x64", "8x512")
    assert re.match(r"8x512 has [\d,]+ parameters, [\d.]+ times more than any pilot, and a plan reach", text)
    assert "train a pilot with at least" in text


def test_a_pilot_above_its_gate(tmp_path: Path) -> None:
    gate = stores.loss("1x32", stores.tokens_in("1x32", stores.PILOT)) * 0.9
    text = refusal(tmp_path, gate=gate)
    assert text.startswith("the pilot of 1x32 is no better than its gate after 10 min 00 s")
    assert "--pilot-minutes" in text


def test_a_metric_that_is_no_loss(tmp_path: Path) -> None:
    assert "the law is one of losses" in refusal(tmp_path, metric="accuracy", gate=0.0)


def test_a_pilot_of_another_recipe(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--config trains otherwise .* optimizer.learning_rate is 0.01 but"):
        planned(folder, tmp_path, "--train.optimizer.learning-rate", "0.01")


def test_a_pilot_that_is_compressed_otherwise(folder: Path, tmp_path: Path) -> None:
    """Whose rises are others: 2 bits by rows cost less than 2 bits for a whole matrix."""
    with pytest.raises(
        UserError, match=r"--config compresses otherwise .* compression.granularity is 'tensor"
    ):
        planned(folder, tmp_path, "--compression.granularity", "tensor")
    stores.pilot(tmp_path / "pilot", noise=0.01)
    study = json.loads((tmp_path / "pilot" / "study.json").read_text())
    study["compression"]["granularity"] = "tensor"
    (tmp_path / "pilot" / "study.json").write_text(json.dumps(study))
    with pytest.raises(UserError, match="pilot compresses otherwise than the pilots"):
        planned(folder, tmp_path / "plan", "--store", str(folder / "pilot"), str(tmp_path / "pilot"))


def test_only_compressions_that_are_asked_for_and_measured_are_offered(folder: Path, tmp_path: Path) -> None:
    made = planned(folder, tmp_path / "plan", "--bits", "32", "5", "4", "2", "--sparsities", "0", "0.3")
    assert {(each.bits, each.sparsity) for size in made.sizes for each in size.recipes} == {
        *((32, 0.0), (4, 0.0), (2, 0.0))
    }
    assert "Measured, but not among --bits and --sparsities: 8 bits." in made.notes
    assert (
        "Not offered, since fewer than 3 models of the pilots were compressed so: 30 % pruned; 5 bits, 30 % "
        "pruned; 5 bits; 4 bits, 30 % pruned; 2 bits, 30 % pruned."
    ) in made.notes


def test_a_choice_that_is_no_better_than_counts(tmp_path: Path) -> None:
    """As what fits in few bytes may be, though each pilot is better before compression."""
    stores.pilot(tmp_path / "pilot")
    stores.timing_files(tmp_path / "times")
    made = planned(tmp_path, tmp_path / "plan", hours=1.0, megabytes=0.03)
    best = made.chosen.best_recipe
    assert best is not None
    assert best.loss > stores.GATE
    assert made.notes[0].startswith(
        "What is chosen is predicted to be no better than counts alone, which reach"
    )
    made = planned(tmp_path, tmp_path / "enough", hours=1.0)
    assert not any("counts alone" in note for note in made.notes)


@hypothesis.given(
    st.lists(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=4), min_size=1)
)
def test_best_files_by_brute_force(sizes: list[list[tuple[int, int]]]) -> None:
    """At each number of bytes the file of the lowest loss that fits, and that of another size."""
    planned_sizes = [
        PlannedSize(
            *(str(n), 1, 0.1, "", 1, 1.0, None, 1.0, 1.0, 1.0),
            tuple(PlannedRecipe(1, 0.0, loss, loss, loss, 0, file, True) for loss, file in recipes),
            *(0, None, "worse"),
        )
        for n, recipes in enumerate(sizes)
    ]
    changes = best_files(planned_sizes)
    for limit in range(1, 10):
        losses = {
            n: min((loss for loss, file in recipes if file <= limit), default=math.inf)
            for n, recipes in enumerate(sizes)
        }
        now = [each for each in changes if each.limit <= limit][-1:]
        assert bool(now) == any(map(math.isfinite, losses.values()))
        for each in now:
            size, recipe = each.best
            assert sizes[size][recipe][0] == min(losses.values())
            rest = [loss for n, loss in losses.items() if n != size and math.isfinite(loss)]
            assert (each.other is None) == (not rest)
            if each.other is not None:
                assert each.other[0] != size
                assert sizes[each.other[0]][each.other[1]][0] == min(rest)


def test_differences_are_of_files_that_share_a_law(folder: Path, tmp_path: Path) -> None:
    """So that they are surer than both losses are."""
    made = planned(folder, tmp_path / "plan", hours=0.5)
    pairs = {(each.best, each.other) for each in best_files(made.sizes) if each.other}
    assert {(each.best, each.other) for each in made.differences} == pairs
    for each in made.differences:
        best, other = (made.sizes[size].recipes[recipe] for size, recipe in (each.best, each.other))
        assert each.median == pytest.approx(other.loss - best.loss, abs=0.1 * (each.high - each.low))
        assert each.high - each.low < (best.high - best.low) + (other.high - other.low)


def test_recipes_of_as_many_bytes_that_do_not_fit(tmp_path: Path) -> None:
    """As 2 bits need with and without 30 % pruned."""
    recipes = [PlannedRecipe(2, sparsity, 1.0, 0.9, 1.1, 100.0, 20_000.0, True) for sparsity in (0.0, 0.3)]
    size = PlannedSize(
        "1x32", 9, 0.1, "", 1, 1.0, None, 1.0, 0.9, 1.1, tuple(recipes), None, None, "too large"
    )
    options = PlanConfig(workdir="", hours=1.0, target_mb=0.01, store=("S",))
    with pytest.raises(UserError, match=r"the smallest is 1x32 \(2 bits\) with 0.02 MB"):
        plan_command._check_bytes((size,), options)


def test_bytes_that_nothing_fits_in(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"the smallest is 1x32 \(2 bits\) with 0.0218 MB"):
        planned(folder, tmp_path / "plan", megabytes=0.01)


def test_a_size_that_a_study_does_not_judge_may_be_asked_for() -> None:
    """Else `--sizes 4x256` would be refused, since `study_translation` has it in `oversized`."""
    study = plan._candidates(["--hours", "1", "--config", "study_translation"])
    assert study is not None
    assert study.oversized == ()
    assert "4x256" not in study.sizes
    assert dataclasses.replace(study, sizes=("2x64", "4x256")).sizes == ("2x64", "4x256")


def test_a_size_without_a_timing_file(folder: Path, tmp_path: Path) -> None:
    files = sorted(map(str, (folder / "times").glob("1x32.json")))
    with pytest.raises(UserError, match="2x64 needs one timing file"):
        planned(folder, tmp_path / "plan", "--device-file", *files)


def test_predicted_beside_obtained(folder: Path, tmp_path: Path) -> None:
    made = planned(folder, tmp_path / "plan", hours=0.5)
    run, chosen = RunDir(tmp_path / "run"), made.chosen
    run.root.mkdir()
    config = load_config(str(tmp_path / "plan" / "train_config.py"), Config)
    write_json(run.config, dataclasses.asdict(config))
    for seconds, complete in ((1799.0, True), (900.0, False)):
        line = {"step": 1000, "tokens": 1_000_000, "training_seconds": seconds, "total_seconds": seconds}
        run.metrics.write_text(json.dumps({**line, "eval/held_out/nats_per_byte": chosen.high + 1}) + "\n")
        rows = {row["quantity"]: row for row in predicted_and_obtained(made, run)}
        assert set(rows) == {"updates", "training seconds", "tokens", "nats_per_byte"}
        loss = rows["nats_per_byte"]
        assert loss["predicted"] == chosen.loss
        assert (loss["inside"], loss["complete"]) == (False, complete)
        assert loss["error"] == pytest.approx(chosen.loss / (chosen.high + 1) - 1)
    # counted in updates, since other work shares its machine
    for steps, complete in ((chosen.steps, True), (chosen.steps // 2, False)):
        budget = dataclasses.replace(config.budget, steps=steps, training_seconds=None)
        schedule = dataclasses.replace(config.schedule, follows="steps")
        counted = dataclasses.replace(config, budget=budget, schedule=schedule)
        write_json(run.config, dataclasses.asdict(counted))
        line = {"step": steps, "training_seconds": 5000.0, "total_seconds": 5000.0}
        trained, evaluated = {**line, "tokens": 1000 * steps}, {**line, "eval/held_out/nats_per_byte": 1.0}
        diverged = {**line, "eval/held_out/nats_per_byte": float("nan")}
        run.metrics.write_text("".join(json.dumps(each) + "\n" for each in (trained, evaluated, diverged)))
        rows = {row["quantity"]: row for row in predicted_and_obtained(made, run)}
        assert all(row["complete"] is complete for row in rows.values())
        assert rows["tokens"]["obtained"] == 1000 * steps, "lines of evaluations do not have them"
        assert rows["nats_per_byte"]["obtained"] == 1.0
    other = dataclasses.replace(config, model=dataclasses.replace(config.model, num_layers=7))
    write_json(run.config, dataclasses.asdict(other))
    with pytest.raises(UserError, match=f"is a run of 7x{config.model.hidden_size}"):
        predicted_and_obtained(made, run)


def test_a_file_that_is_no_plan(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text('{"hours": "many"}')
    with pytest.raises(UserError, match="is not a plan"):
        read_plan(tmp_path)


@pytest.mark.parametrize(
    ("where", "value", "words"),
    [
        (("sizes", 0, "loss"), float("nan"), "loss is nan"),
        (("sizes", 1, "recipes", 0, "file_bytes"), float("inf"), "file_bytes is inf"),
        (("hours",), 0.0, "hours is 0"),
        (("hours",), "two", "hours: Input should be a valid number"),
        (("sizes", 0, "parameters"), 0, "1x32 has nothing to train"),
        (("sizes", 0, "best"), 99, "best of 1x32 is no recipe"),
        (("sizes", 0, "verdict"), "chosen", "not exactly one size is chosen"),
    ],
)
def test_plans_that_cannot_be_drawn(
    folder: Path, tmp_path: Path, where: tuple[Any, ...], value: Any, words: str
) -> None:
    planned(folder, tmp_path / "plan", hours=0.5)
    content = json.loads((tmp_path / "plan" / "plan.json").read_text())
    inside = content
    for name in where[:-1]:
        inside = inside[name]
    inside[where[-1]] = value
    (tmp_path / "plan" / "plan.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=f"is not a plan \\({words}"):
        read_plan(tmp_path / "plan")
