"""Quantization-aware recovery: the artifact is what the last evaluation of the best round has seen."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from tlc_jax import compress
from tlc_jax.artifacts.artifact import read_artifact
from tlc_jax.compression.methods import LowRank, PruneMagnitude, Quantize
from tlc_jax.compression.pipeline import recipe_of
from tlc_jax.config import CompressConfig, QuantSpec, RecoveryConfig, StudyConfig
from tlc_jax.core.errors import UserError
from tlc_jax.core.stacked import split
from tlc_jax.recipes import guaranteed_drop
from tlc_jax.recipes.recover import prune_in_rounds
from tlc_jax.recipes.tuning_evaluator import evaluator_of
from tlc_jax.runs.load import load_model
from tlc_jax.training.metrics import read_metrics
from tlc_jax.training.session import Session

RECIPE = """
from tlc_jax.config import *

def get_config():
    return CompressConfig(
        bits=2, sparsity=0.6, granularity="row", matrices_only=True,
        rules=(Rule("encoder/position_embedding", QuantSpec(6)),),
        recovery=RecoveryConfig(levels=(0.6,), target=2.0, max_epochs=0.6, evaluate_every=3,
                                quantization_aware=True))
"""


@pytest.mark.slow
def test_the_artifact_is_what_the_best_evaluation_has_seen(
    finetuned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "recipe.py").write_text(RECIPE)
    seen: list[tuple[int, Any]] = []
    written = Session._written

    def recorded(session: Session) -> Any:
        params = written(session)
        seen.append((session.step, split(params)))
        return params

    monkeypatch.setattr(Session, "_written", recorded)
    order = [str(finetuned / "run"), "--config", str(tmp_path / "recipe.py")]
    compress.main([*order, "--workdir", str(tmp_path / "w"), "--out", str(tmp_path / "out")])
    manifest = read_artifact(tmp_path / "out").manifest
    [last] = manifest["recovery"]
    evaluated = [params for step, params in seen if step == last["kept_step"]][-1]
    tensors = split(load_model(str(tmp_path / "out"), warn=pytest.fail).params)
    for tensor, x in tensors.items():
        np.testing.assert_array_equal(x, evaluated[tensor], err_msg=tensor)
    query = "encoder/layers/1/attention/query/kernel"
    assert len(np.unique(tensors[query][:, 0])) <= 5, "four codes, and the zeros of what is pruned"

    run = f"{tmp_path / 'w' / 'pruned-60'}@best"
    model = load_model(run, warn=pytest.fail)
    accuracy = evaluator_of(model)(split(model.params))["eval/tuning/accuracy"]
    lines = read_metrics(tmp_path / "w" / "pruned-60" / "metrics.jsonl")
    [line] = [line for line in lines if line["step"] == last["kept_step"] and "eval/tuning/accuracy" in line]
    assert accuracy == line["eval/tuning/accuracy"] == last["recovered_accuracy"]

    latent = split(model.before_rounding().params)
    assert len(np.unique(latent[query])) > 100, "what is trained keeps all digits"
    compress.main([run, "--bits", "32", "--out", str(tmp_path / "float")])
    floats = split(load_model(str(tmp_path / "float"), warn=pytest.fail).params)
    for tensor, x in tensors.items():
        np.testing.assert_array_equal(floats[tensor], x, err_msg="other bits begin with rounded weights")


@pytest.mark.slow
def test_without_a_sparsity_there_is_one_round(
    finetuned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = [str(finetuned / "run"), "--config", "quantization_aware", "--granularity", "row"]
    few = ["--recovery.max-epochs", "0.2", "--recovery.target", "2"]
    compress.main([*order, *few, "--workdir", str(tmp_path / "w"), "--out", str(tmp_path / "out")])
    [only] = read_artifact(tmp_path / "out").manifest["recovery"]
    assert (only["sparsity"], only["steps"]) == (0.0, 3)
    kept = split(load_model(f"{tmp_path / 'w' / 'pruned-0'}@best", warn=pytest.fail).params)
    for tensor, x in split(load_model(str(tmp_path / "out"), warn=pytest.fail).params).items():
        np.testing.assert_array_equal(x, kept[tensor], err_msg=tensor)

    # tested in the same way, the round does not differ from itself: its weights are not rounded twice
    first = guaranteed_drop.sequence
    monkeypatch.setattr(guaranteed_drop, "sequence", lambda *given: itertools.islice(first(*given), 1))
    made = read_artifact(tmp_path / "out").manifest["compression"]
    same = [
        f"--{option}={made[option.replace('-', '_')]}" for option in ("bits", "granularity", "range", "zero")
    ]
    others = ["--matrices-only"] if made["matrices_only"] else []
    run, certain = f"{tmp_path / 'w' / 'pruned-0'}@best", tmp_path / "certain"
    compress.main([run, *same, *others, "--max-drop", "0.5", "--out", str(certain)])
    guarantee = read_artifact(certain).manifest["guarantee"]
    [test] = guarantee["tests"]
    assert (test["lost"], test["gained"], guarantee["before"]) == (0, 0, "rounded weights")
    for tensor, x in split(load_model(str(certain), warn=pytest.fail).params).items():
        np.testing.assert_array_equal(x, kept[tensor], err_msg=tensor)


def test_what_does_not_go_together_is_refused(tmp_path: Path) -> None:
    aware = RecoveryConfig(quantization_aware=True)
    with pytest.raises(ValueError, match="bits, which are 32: give --bits"):
        CompressConfig(bits=32, recovery=aware)
    with pytest.raises(ValueError, match="target_mb chooses them after it: omit one"):
        CompressConfig(target_mb=1.0, recovery=aware)
    with pytest.raises(ValueError, match="recovery.quantization_aware trains for one of them"):
        StudyConfig(sizes=("2x64",), recovery=aware)
    assert recipe_of(CompressConfig(recovery=aware))[0] == PruneMagnitude(0.0, recovery=aware)


@pytest.mark.slow
def test_steps_that_store_other_values_are_refused(finetuned: Path, tmp_path: Path) -> None:
    aware = RecoveryConfig(quantization_aware=True)
    for others, says in (
        ((LowRank(), Quantize()), "LowRank would store other values: omit one"),
        ((Quantize(QuantSpec(32)),), "leaves all of them at 32 bits: give --bits"),
    ):
        recipe = (PruneMagnitude(0.5, recovery=aware), *others)
        with pytest.raises(UserError, match=says):
            prune_in_rounds(str(finetuned / "run"), recipe, tmp_path / "w", Console(quiet=True))
