"""Statistics over the training data of a run, and compress with steps that need them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from tlc_jax import compress
from tlc_jax.artifacts.artifact import read_artifact
from tlc_jax.core.errors import UserError
from tlc_jax.core.stacked import split
from tlc_jax.recipes import calibration
from tlc_jax.recipes.calibration import Calibration
from tlc_jax.recipes.calibration_corpus import training_corpus
from tlc_jax.recipes.tuning_evaluator import task_of
from tlc_jax.runs.load import load_model


def test_statistics_are_means_over_training_batches(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever fits into memory at once."""
    model = load_model(str(finished))
    task, names = task_of(model), list(split(model.params))
    corpus = training_corpus(task, model)
    assert corpus is not None
    at_once = Calibration(corpus, Console(quiet=True), tokens=600)
    whole = {name: at_once[name] for name in at_once}
    assert set(whole) < set(names)
    batches = [task.train_batch(step, lambda size: slice(0, model.config.at_once)) for step in range(3)]
    tokens = np.concatenate([batch["tokens"].ravel() for batch in batches])
    counts = np.bincount(tokens[tokens != 1], minlength=300)
    assert counts.sum() >= 600 > counts.sum() - batches[-1]["tokens"].size
    uses = np.asarray(whole["encoder/token_embedding"].uses)
    np.testing.assert_allclose(uses, counts / counts.sum(), atol=1e-7)
    monkeypatch.setattr(calibration, "_BYTES", 1)
    alone = Calibration(corpus, Console(quiet=True), tokens=600)
    name = "encoder/layers/1/feed_forward/contract/kernel"
    moments = [np.asarray(known[name].second_moment) for known in (alone, whole)]
    np.testing.assert_allclose(*moments, rtol=1e-5)
    assert set(alone._held) == {name, name.replace("/1/", "/0/")}, "one parameter is held"
    assert alone.get("encoder/layers/0/attention_norm/scale") is None
    assert name in alone._held, "a vector has no statistics, and takes the place of none"
    assert np.linalg.eigvalsh(np.asarray(whole[name].second_moment)).min() > -1e-6


@pytest.mark.slow
def test_compress_calibrates(finished: Path, tmp_path: Path) -> None:
    """The artifact has the zeros and codes of the steps, and is better than one of plain rounding."""
    losses, manifest = {}, {}
    for name, options in {
        "made_up": ["--config", "compensated", "--bits", "2"],
        "plain": ["--bits", "2", "--granularity", "row", "--range", "mse", "--matrices-only"],
        "pruned": ["--config", "prune_compensated", "--bits", "8"],
    }.items():
        compress.main([str(finished), *options, "--out", str(tmp_path / name)])
        manifest = read_artifact(tmp_path / name).manifest
        losses[name] = manifest["training"]["metric"]["value"]
    assert losses["made_up"] < losses["plain"]
    assert manifest["size"]["nonzeros"] < 0.6 * manifest["size"]["weights"]
    steps = [step["step"] for step in manifest["recipe"]]
    assert steps == ["PruneCompensated", "QuantizeCompensated", "Quantize"]


def test_what_cannot_calibrate_is_refused(finished: Path, tmp_path: Path) -> None:
    options = ["--config", "compensated", "--out", str(tmp_path / "out")]
    with pytest.raises(UserError, match="--target-mb tries compensation by itself"):
        compress.main([str(finished), *options, "--target-mb", "0.1"])
