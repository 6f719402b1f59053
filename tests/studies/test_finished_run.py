"""The evaluations of a finished run, as its metrics have them."""

from __future__ import annotations

import json
from pathlib import Path

from tlc_jax.storage.run_directory import RunDir
from tlc_jax.studies.finished_run import evaluations


def test_an_evaluation_has_the_training_loss_of_the_last_updates_before_it(tmp_path: Path) -> None:
    lines = [
        {"step": 0, "eval/held_out/loss": 5.0},
        {"step": 20, "train/loss": 4.5},
        {"step": 40, "train/loss": 4.0},
        {"step": 40, "eval/held_out/loss": 4.1},
        {"step": 60, "train/learning_rate": 1.0},  # all of these updates were skipped
        {"step": 60, "eval/held_out/loss": 4.2},
    ]
    rundir = RunDir(tmp_path)
    times = {"training_seconds": 1.0, "total_seconds": 2.0}
    rundir.metrics.write_text("".join(json.dumps({**line, **times}) + "\n" for line in lines))
    losses = [(line["step"], line.get("training_loss")) for line in evaluations(rundir)]
    assert losses == [(0, None), (40, 4.0), (60, 4.0)]
