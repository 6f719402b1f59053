"""A plan that trains its own pilot, and the training and the compression that it has planned."""

import shlex
from pathlib import Path

import jax
import pytest

from tests.builders import short_timings
from tlc_jax import compress, plan, train
from tlc_jax.artifacts.artifact import read_artifact
from tlc_jax.parallel import accelerators
from tlc_jax.storage.paths import parse_path
from tlc_jax.storage.run_directory import RunDir
from tlc_jax.studies import measured
from tlc_jax.studies.item_store import ItemStore
from tlc_jax.studies.plan_record import predicted_and_obtained, read_plan
from tlc_jax.training.metrics import read_metrics

SIZES = ("1x32", "2x32", "2x64")


@pytest.mark.slow
def test_a_plan_is_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    short_timings(monkeypatch)
    monkeypatch.setattr(measured, "GATES", {})  # which a model of a few seconds does not pass
    monkeypatch.setattr(accelerators, "devices", lambda: jax.devices()[:1])  # eight would share two cores
    out = tmp_path / "plan"
    given = ["--config", "quickstart_study", "--workdir", str(out), "--hours", "0.0015", "--target-mb", "0.2"]
    given += ["--pilot-minutes", "0.25", "--sizes", *SIZES, "--bits", "32", "4"]
    given += ["--counted-in", "steps"]  # by the clock, a busy machine leaves too few points in the window
    given += ["--train.task.row-multiple", "2", "--train.batch-size", "256", "--train.data.held-out", "0.005"]
    plan.main([*given, "--train.data.cache-dir", str(tmp_path / "cache")])
    made = read_plan(out)
    assert [each.size for each in made.sizes] == [*SIZES]
    assert all(each.speed == "measured" for each in made.sizes)
    pilot = ItemStore(out / "pilot")
    rows = pilot.rows(stage="branch", last=True)
    assert {(row["size"], row["mark"]) for row in rows} == {
        (size, mark) for size in SIZES for mark in ("1/8", "1/4", "1/2", "1")
    }
    of_an_update = {row["size"]: row["value"] for row in pilot.rows(stage="timing", metric="mean_seconds")}
    longest = 15 / 3 / (0.8 + 0.2 * (1 / 8 + 1 / 4 + 1 / 2 + 1))  # of 15 s for three trunks with branches
    for row in rows:
        if row["mark"] == "1":
            assert row["step"] * of_an_update[row["size"]] == pytest.approx(longest, rel=0.05)

    for line, main in zip(made.commands, (train.main, compress.main), strict=True):
        words = shlex.split(line)
        main(words[words.index("-m") + 2 :] if "-m" in words else words[2:])
    compared = {row["quantity"]: row for row in predicted_and_obtained(made, RunDir(out / "run"))}
    assert compared["training seconds"]["obtained"] == pytest.approx(5.4, rel=0.2)
    reached = read_metrics(RunDir(out / "run").metrics)[-1]["eval/held_out/nats_per_byte"]
    row = compared["nats_per_byte"]  # seconds of a busy machine predict little
    assert (row["obtained"], row["error"]) == (reached, pytest.approx(row["predicted"] / reached - 1))
    artifact = read_artifact(parse_path(str(out / "compressed")))
    recipe = made.chosen.best_recipe
    assert recipe is not None
    file = sum(path.stat().st_size for path in (out / "compressed").glob("*.safetensors"))
    assert file == pytest.approx(recipe.file_bytes, rel=0.02)
    assert artifact.manifest
