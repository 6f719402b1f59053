"""Movement pruning while a model recovers: masks are what the artifact stores, at the sparsity asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from tests.builders import lines
from tlc_jax import compress
from tlc_jax.artifacts.artifact import read_artifact
from tlc_jax.compression.methods import PruneMagnitude, PruneMovement, PruneNOfM, Quantize
from tlc_jax.config import CompressConfig, MovementConfig, QuantSpec, RecoveryConfig, StudyConfig
from tlc_jax.core import stopping
from tlc_jax.core.errors import Interrupted, UserError
from tlc_jax.core.stacked import split
from tlc_jax.recipes.recover import prune_in_rounds
from tlc_jax.runs.load import load_model
from tlc_jax.training.metrics import read_metrics

RECIPE = """
from tlc_jax.config import *

def get_config():
    return CompressConfig(
        bits=4, sparsity={sparsity}, granularity="row", matrices_only=True,
        recovery=RecoveryConfig(target=2.0, max_epochs=0.6, evaluate_every=2,
                                movement=MovementConfig(cooldown=0.4, {soft})))
"""
SOFT = "soft=True, penalty=1000.0, threshold=0.45, learning_rate=0.1"


def order(finetuned: Path, folder: Path, **options: Any) -> list[str]:
    (folder / "recipe.py").write_text(RECIPE.format(**options))
    return [str(finetuned / "run"), "--config", str(folder / "recipe.py"), "--workdir", str(folder / "w")]


def assert_masks_are_stored(out: Path, run: str) -> int:
    """The artifact has the zeros of the run's masks. Returns their number."""
    model, artifact = load_model(run, warn=pytest.fail), read_artifact(out)
    params = split(model.params)
    for name, entry in artifact.manifest["tensors"].items():
        mask = model.masks.get(name, np.ones((), bool))
        assert entry["weights"] - entry["nonzeros"] == int((~mask).sum())
        for weights in (artifact.tensors[name].dense(), params[name]):
            assert not np.where(mask, 0, weights).any(), f"{name}: masked weights are dead"
    return sum(int((~mask).sum()) for mask in model.masks.values())


def prunable(run: str) -> int:
    tensors = split(load_model(run, warn=pytest.fail).params)
    return sum(x.size for name, x in tensors.items() if x.ndim == 2 and not name.startswith("class"))


@pytest.mark.slow
def test_movement_reaches_its_sparsity_and_resumes(
    finetuned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interrupted round ends with the same bytes."""
    whole, broken = (tmp_path / name for name in ("whole", "broken"))
    for folder in (whole, broken):
        folder.mkdir()
    options = {"sparsity": 0.77, "soft": ""}
    compress.main([*order(finetuned, whole, **options), "--out", str(whole / "out")])
    run = str(whole / "w" / "pruned-77")
    gone = assert_masks_are_stored(whole / "out", f"{run}@best")
    assert gone == round(0.77 * prunable(run))
    [record] = read_artifact(whole / "out").manifest["recovery"]
    assert record["sparsity"] == 0.77
    assert "pruned_accuracy" not in record

    logged = read_metrics(whole / "w" / "pruned-77" / "metrics.jsonl")
    evaluated = [line for line in logged if "eval/tuning/accuracy" in line]
    first = record["steps"] - round(0.4 * record["steps"])
    assert min(line["step"] for line in evaluated) == 0
    assert all(("best_step" in line) == (line["step"] >= first) for line in evaluated), "once all is pruned"
    best = max(line["eval/tuning/accuracy"] for line in evaluated if line["step"] >= first)
    assert record["recovered_accuracy"] == best

    command = [*order(finetuned, broken, **options), "--out", str(broken / "out")]
    with monkeypatch.context() as patch:
        metrics = broken / "w" / "pruned-77" / "metrics.jsonl"
        patch.setattr(stopping, "requested", lambda: any(line["step"] == 4 for line in read_metrics(metrics)))
        with pytest.raises(Interrupted, match="step 4"):
            compress.main(command)
    compress.main(command)
    assert lines(broken / "w" / "pruned-77") == lines(whole / "w" / "pruned-77")
    ours, theirs = (folder / "out" / "model.safetensors" for folder in (broken, whole))
    assert ours.read_bytes() == theirs.read_bytes()


@pytest.mark.slow
def test_soft_movement_says_what_it_has_pruned(finetuned: Path, tmp_path: Path) -> None:
    order_ = order(finetuned, tmp_path, sparsity=0.0, soft=SOFT)
    compress.main([*order_, "--out", str(tmp_path / "out")])
    run = str(tmp_path / "w" / "pruned-soft")
    gone = assert_masks_are_stored(tmp_path / "out", f"{run}@best")
    [record] = read_artifact(tmp_path / "out").manifest["recovery"]
    assert record["kept_step"] == record["steps"], "it prunes until the end"
    assert 0.01 < record["sparsity"] == gone / prunable(run) < 0.99


def test_what_does_not_go_together_is_refused() -> None:
    hard, soft = MovementConfig(), MovementConfig(soft=True, penalty=1.0)
    for options, says in (
        ({"recovery": RecoveryConfig(movement=hard)}, "the sparsity, which is 0: give --sparsity"),
        ({"sparsity": 0.5, "recovery": RecoveryConfig(movement=soft)}, "finds a sparsity by its penalty"),
        (
            {"sparsity": 0.5, "max_tensor_sparsity": 0.9, "recovery": RecoveryConfig(movement=hard)},
            "max_tensor_sparsity is for pruning by magnitude",
        ),
    ):
        with pytest.raises(ValueError, match=says):
            CompressConfig(**options)
    with pytest.raises(ValueError, match=r"recovery\.movement in a round of its own"):
        StudyConfig(sizes=("2x64",), recovery=RecoveryConfig(movement=hard))
    for step in (PruneMagnitude, PruneNOfM):
        with pytest.raises(ValueError, match=r"recovery\.movement is for PruneMovement"):
            step(recovery=RecoveryConfig(movement=hard))
    with pytest.raises(ValueError, match="give either recovery.movement.soft or a sparsity"):
        PruneMovement(0.5, recovery=RecoveryConfig(movement=soft))
    with pytest.raises(ValueError, match=r"learns what to prune: give recovery\.movement"):
        PruneMovement(0.5, recovery=RecoveryConfig())


@pytest.mark.slow
def test_scores_are_not_for_weights_that_are_pruned_already(finetuned: Path, tmp_path: Path) -> None:
    movement = PruneMovement(0.5, recovery=RecoveryConfig(movement=MovementConfig()))
    recipe = (movement, PruneNOfM(2, 4), Quantize(QuantSpec(4)))
    with pytest.raises(UserError, match="some are pruned already, such as those of"):
        prune_in_rounds(str(finetuned / "run"), recipe, tmp_path / "w", Console(quiet=True))
