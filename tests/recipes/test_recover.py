"""Pruned weights stay zero; pruning in rounds recovers, stops where it should, and survives kill -9."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from rich.console import Console

from tests.builders import lines
from tlc_jax import compress, evaluate
from tlc_jax.artifacts.artifact import WEIGHTS, read_artifact
from tlc_jax.compression.methods import KeepUnits, PruneMagnitude
from tlc_jax.compression.prune import apply_masks, magnitude_masks
from tlc_jax.config import ModelConfig, OptimizerConfig
from tlc_jax.config.compression import CompressConfig, RecoveryConfig
from tlc_jax.core import stopping
from tlc_jax.core.errors import Interrupted, UserError
from tlc_jax.core.stacked import join, split
from tlc_jax.models.encoder import init_mlm
from tlc_jax.recipes.finished_round import Round
from tlc_jax.recipes.recover import prune_in_rounds
from tlc_jax.recipes.tuning_evaluator import evaluator_of
from tlc_jax.runs.load import load_model
from tlc_jax.runs.teacher import fingerprint
from tlc_jax.training.masked import masked, parameter_masks, tensor_masks, with_masks
from tlc_jax.training.metrics import read_metrics
from tlc_jax.training.optimizer import make_optimizer

MODEL = ModelConfig(num_layers=3, hidden_size=16, head_size=8, vocab_size=50, max_positions=8)


@pytest.mark.slow
def test_pruned_weights_stay_zero_through_momentum_and_decay() -> None:
    """100 updates of AdamW with decay and large gradients; momentum from before the pruning too."""
    params = jax.jit(lambda key: init_mlm(MODEL, key))(jax.random.key(0))
    rng = np.random.default_rng(0)
    plain = make_optimizer(OptimizerConfig(weight_decay=0.5), params)
    inner = plain.init(params)
    gradients = jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape), jnp.float32), params)
    for _ in range(3):  # momentum everywhere, of weights that will be pruned too
        _, inner = plain.update(gradients, inner, params)
    tensors = split(params)
    masks = magnitude_masks({name: x for name, x in tensors.items() if x.ndim == 2}, 0.6)
    pruned = join({name: jnp.where(masks.get(name, True), x, 0.0) for name, x in tensors.items()})
    optimizer, state = masked(plain), with_masks(inner, pruned, masks)

    @jax.jit
    def update(params: dict, state: optax.OptState, gradients: dict) -> tuple[dict, optax.OptState]:
        directions, state = optimizer.update(gradients, state, params)
        return jax.tree.map(lambda p, d: p - 0.01 * d, params, directions), state

    for _ in range(100):
        gradients = jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape), jnp.float32), params)
        pruned, state = update(pruned, state, gradients)
    for name, x in split(pruned).items():
        x = np.asarray(x)
        if name in masks:
            assert (x[~masks[name]] == 0).all(), name
            assert (x[masks[name]] != 0).all(), "the others train"
    directions = split(plain.update(gradients, plain.init(pruned), pruned)[0])
    for name, mask in masks.items():
        assert (np.asarray(directions[name])[~mask] != 0).all(), "without the masks they would come back"


def test_masks_of_tensors_and_of_parameters() -> None:
    """Only one layer is pruned: the others of its stack have masks of ones, and come back as none."""
    params = jax.eval_shape(lambda: init_mlm(MODEL, jax.random.key(0)))
    name = "encoder/layers/1/attention/query/kernel"
    mask = np.arange(256).reshape(16, 16) % 3 > 0
    stacked = parameter_masks(params, {name: mask})
    assert list(stacked) == ["encoder/layers/attention/query/kernel"]
    found = stacked["encoder/layers/attention/query/kernel"]
    np.testing.assert_array_equal(found, np.stack([np.ones_like(mask), mask, np.ones_like(mask)]))
    back = tensor_masks(stacked)
    assert list(back) == [name]
    np.testing.assert_array_equal(back[name], mask)
    with pytest.raises(UserError, match="masks of encoder/layers/7/x/kernel, but no such parameters"):
        parameter_masks(params, {"encoder/layers/7/x/kernel": mask})


RECIPE = """
from tlc_jax.config.compression import CompressConfig, RecoveryConfig

def get_config():
    return CompressConfig(bits=5, sparsity=0.9, recovery=RecoveryConfig(
        levels=(0.3, 0.6, 0.9), target=0.995, max_epochs=2, evaluate_every=4))
"""


@pytest.fixture(scope="module")
def root(finetuned: Path) -> Path:
    """A finetuned classification `run`, the recipe, its rounds and its artifact."""
    root = finetuned
    (root / "recipe.py").write_text(RECIPE)
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        compress.main(order(root, root / "rounds", root / "artifact"))
    assert re.search(r"30 % pruned: accuracy 0\.\d+, after \d+ updates \(\d+ s\) 0\.\d+", said.getvalue())
    dense = read_metrics(root / "run" / "metrics.jsonl")[-1]["eval/tuning/accuracy"]
    assert re.search(rf"^  tuning accuracy +{dense:.4g} ", said.getvalue(), re.MULTILINE), "before all rounds"
    return root


def order(root: Path, workdir: Path, out: Path) -> list[str]:
    recipe = ["--checkpoint", str(root / "run"), "--config", str(root / "recipe.py")]
    return [*recipe, "--workdir", str(workdir), "--out", str(out)]


@pytest.mark.slow
def test_rounds_prune_more_and_more_and_end_when_accuracy_is_back(root: Path) -> None:
    dense = read_metrics(root / "run" / "metrics.jsonl")[-1]["eval/tuning/accuracy"]
    told = read_artifact(root / "artifact").manifest["recovery"]
    assert [found["sparsity"] for found in told] == [0.3, 0.6, 0.9]
    before: dict = {}
    for level, found in zip((30, 60, 90), told, strict=True):
        model = load_model(str(root / "rounds" / f"pruned-{level}"), warn=pytest.fail)
        tensors = split(model.params)
        pruned = sum(int((~mask).sum()) for mask in model.masks.values())
        matrices = {n: x for n, x in tensors.items() if x.ndim == 2 and not n.startswith("class")}
        assert pruned == round(level / 100 * sum(x.size for x in matrices.values()))
        for name, mask in model.masks.items():
            assert (np.asarray(tensors[name])[~mask] == 0).all(), name
            if name in before:
                assert not (mask & ~before[name]).any(), "nothing comes back"
        before = model.masks
        epoch_twice = 2 * (320 // 32)
        assert found["steps"] == model.step <= epoch_twice + 2
        enough = found["recovered_accuracy"] >= 0.995 * dense
        assert enough or found["steps"] >= epoch_twice - 2, "it stops when accuracy is back, or at the end"
        assert (found["steps"] == 0) == (found["pruned_accuracy"] >= 0.995 * dense), "evaluated first"
        assert found["steps"] == 0 or found["training_seconds"] > 0
    assert any(found["steps"] > 0 for found in told), "the test has something to recover"


@pytest.mark.slow
def test_the_artifact_is_the_last_round(root: Path, capsys: pytest.CaptureFixture) -> None:
    artifact = read_artifact(root / "artifact")
    model = load_model(str(root / "rounds" / "pruned-90"), warn=pytest.fail)
    for name, mask in model.masks.items():
        entry = artifact.manifest["tensors"][name]
        assert entry["weights"] - entry["nonzeros"] == (~mask).sum()
        assert entry["bits"] == 5
    dense = str(root / "dense")
    compress.main(["--checkpoint", str(root / "rounds" / "pruned-90"), "--bits", "32", "--out", dense])
    capsys.readouterr()
    evaluate.main(["--checkpoint", dense, "--json", "--data.dir", str(root / "tables")])
    found = json.loads(capsys.readouterr().out)["eval/tuning/accuracy"]
    assert found == artifact.manifest["recovery"][-1]["recovered_accuracy"], (
        "the round's own, without its run"
    )


def rounds_of(root: Path, folder: Path, *levels: float, **options: float | bool) -> list[Round]:
    recovery = RecoveryConfig(levels=levels, evaluate_every=4, **options)  # type: ignore[arg-type]
    step = PruneMagnitude(levels[-1], recovery=recovery)
    return prune_in_rounds(str(root / "run"), (step,), folder, Console(quiet=True))[1]


def tuning(run: Path) -> dict[int, float]:
    """Accuracy on the tuning set by updates."""
    name = "eval/tuning/accuracy"
    return {line["step"]: line[name] for line in read_metrics(run / "metrics.jsonl") if name in line}


def learning_rates(run: Path) -> dict[int, float]:
    name = "train/learning_rate"
    return {line["step"]: line[name] for line in read_metrics(run / "metrics.jsonl") if name in line}


@pytest.mark.slow
def test_a_round_keeps_its_best_evaluation(root: Path, tmp_path: Path) -> None:
    """The learning rate is so high that recovery makes the model worse after the best evaluation, and the
    target is never reached. The next round begins with the best, too."""
    finished = rounds_of(root, tmp_path, 0.6, 0.7, target=2.0, learning_rate=0.1)
    previous = None
    for level, result in zip((60, 70), finished, strict=True):
        values = tuning(tmp_path / f"pruned-{level}")
        best = max(values.values())
        assert best > [*values.values()][-1], "the last is worse"
        assert result.recovered == best
        assert result.kept_step == min(step for step, value in values.items() if value == best)
        assert result.steps == max(values) > result.kept_step
        kept = load_model(result.reference, warn=pytest.fail)
        assert kept.step == result.kept_step
        assert evaluator_of(kept)(split(kept.params))["eval/tuning/accuracy"] == best
        start = load_model(f"{tmp_path / f'pruned-{level}'}@best", warn=pytest.fail)
        assert start.step == result.kept_step
        if previous is not None:
            pruned = apply_masks(split(previous.params), kept.masks)
            assert evaluator_of(previous)(pruned)["eval/tuning/accuracy"] == result.pruned
        previous = kept
    again = rounds_of(root, tmp_path, 0.6, 0.7, target=2.0, learning_rate=0.1)
    assert again == finished, "what is complete is read"


@pytest.mark.slow
def test_the_control_is_the_same_training_without_masks(root: Path, tmp_path: Path) -> None:
    """Where so little is pruned that no weight is, it is the round itself, update by update."""
    (same,) = rounds_of(root, tmp_path / "none", 1e-6, target=2.0, control=True)
    assert same.control == same.recovered
    assert tuning(tmp_path / "none" / "control-0.0001") == tuning(tmp_path / "none" / "pruned-0.0001")
    finished = rounds_of(root, tmp_path / "w", 0.3, 0.9, target=0.995, max_epochs=2.0, control=True)
    assert any(0 < result.steps < 20 for result in finished), "one stops early"
    for result in finished:
        name = f"{100 * result.sparsity:g}"
        folder = tmp_path / "w" / f"control-{name}"
        assert folder.exists() == (result.steps > 0)
        if result.steps:
            values = tuning(folder)
            assert max(values) == result.steps
            assert result.control == max(values.values())
            model = load_model(str(folder), warn=pytest.fail)
            assert not model.masks
            assert learning_rates(folder) == learning_rates(tmp_path / "w" / f"pruned-{name}")


def first_gradient(run: Path) -> float:
    lines = read_metrics(run / "metrics.jsonl")
    [norm] = [line["train/gradient_norm"] for line in lines if line["step"] == 1]
    return norm


@pytest.mark.slow
def test_rounds_learn_the_predictions_that_the_model_had_before_pruning(root: Path, tmp_path: Path) -> None:
    """Where no weight is pruned the model is its own teacher, and its predictions have nothing to teach it:
    without dropout the gradient of the first update is zero. The control learns from the labels."""
    run = shutil.copytree(root / "run", tmp_path / "run")
    document = json.loads((run / "config.json").read_text())
    document["log_every"] = 1
    document["model"] |= {"dropout": 0.0, "attention_dropout": 0.0}
    (run / "config.json").write_text(json.dumps(document))
    options = {"target": 2.0, "max_epochs": 0.2}
    rounds_of(tmp_path, tmp_path / "labels", 1e-6, **options)
    rounds_of(tmp_path, tmp_path / "same", 1e-6, control=True, distil_weight=1.0, **options)
    rounds_of(tmp_path, tmp_path / "pruned", 0.6, distil_weight=1.0, **options)
    of_labels = first_gradient(tmp_path / "labels" / "pruned-0.0001")
    assert first_gradient(tmp_path / "same" / "pruned-0.0001") < 1e-3 * of_labels
    assert first_gradient(tmp_path / "same" / "control-0.0001") == of_labels
    assert first_gradient(tmp_path / "pruned" / "pruned-60") > 1e-3 * of_labels


@pytest.mark.slow
def test_without_a_share_of_the_teacher_nothing_changes(root: Path, tmp_path: Path) -> None:
    for name, options in (
        ("a", {}),
        ("b", {"distil_weight": 0.0, "distil_temperature": 3.0, "distil_hidden_weight": 0.0}),
    ):
        rounds_of(root, tmp_path / name, 0.6, target=2.0, max_epochs=0.2, **options)
    first, second = (tmp_path / name / "pruned-60" for name in "ab")
    assert (first / "config.json").read_bytes() == (second / "config.json").read_bytes()
    assert_same_training(first, second)


def assert_same_training(first: Path, second: Path) -> None:
    """The same metrics and, bit for bit, the same parameters."""
    assert lines(first) == lines(second)
    tensors, expected = (split(load_model(str(run), warn=pytest.fail).params) for run in (first, second))
    for name, value in expected.items():
        np.testing.assert_array_equal(tensors[name], value, err_msg=name)


@pytest.mark.slow
def test_an_interrupted_round_goes_on_with_its_teacher(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In both rounds it is the dense model, which has more heads."""
    options = {"target": 2.0, "max_epochs": 0.6, "evaluate_every": 4, "distil_temperature": 2.0}

    def go(folder: Path, weight: float = 0.5) -> list[Round]:
        recovery = RecoveryConfig(levels=(0.3, 0.6), distil_weight=weight, **options)  # type: ignore[arg-type]
        recipe = (KeepUnits(heads=2), PruneMagnitude(0.6, recovery=recovery))
        return prune_in_rounds(str(root / "run"), recipe, folder, Console(quiet=True))[1]

    unbroken, broken = tmp_path / "unbroken", tmp_path / "broken"
    expected = go(unbroken)
    with monkeypatch.context() as patch:
        patch.setattr(stopping, "requested", lambda: 4 in tuning(broken / "pruned-60"))
        with pytest.raises(Interrupted, match="step 4"):
            go(broken)
    with pytest.raises(UserError, match=r"distil\.weight"):
        go(broken, weight=0.25)
    for found, before in zip(go(broken), expected, strict=True):
        same = {"training_seconds": before.training_seconds, "reference": before.reference}
        assert dataclasses.replace(found, **same) == before
    dense = load_model(str(root / "run"), warn=pytest.fail)
    for name in ("pruned-30", "pruned-60"):
        assert_same_training(broken / name, unbroken / name)
        assert load_model(str(broken / name), warn=pytest.fail).config.model != dense.config.model
        starts = json.loads((broken / name / "environment.json").read_text())["starts"]
        assert {start["teacher_fingerprint"] for start in starts} == {fingerprint(dense.params, dense.mesh)}


def test_shares_and_temperatures_that_cannot_be_are_refused() -> None:
    for share in (-0.1, 1.5):
        with pytest.raises(ValueError, match=r"recovery\.distil_weight must be in \[0, 1\]"):
            RecoveryConfig(distil_weight=share)
    for temperature in (0.0, float("inf")):
        with pytest.raises(ValueError, match=r"recovery\.distil_temperature must be positive and finite"):
            RecoveryConfig(distil_temperature=temperature)


@pytest.mark.slow
def test_a_byte_budget_is_met_after_the_rounds(root: Path, tmp_path: Path) -> None:
    options = [*order(root, root / "rounds", tmp_path / "fit"), "--target-mb", "0.05"]
    compress.main(options)
    manifest = read_artifact(tmp_path / "fit").manifest
    assert manifest["files"][WEIGHTS]["bytes"] <= 50_000
    assert [finished["sparsity"] for finished in manifest["recovery"]] == [0.3, 0.6, 0.9]
    assert manifest["size"]["nonzeros"] < 0.5 * manifest["size"]["weights"], "what the rounds pruned"


@pytest.mark.slow
def test_any_round_at_any_bits_keeps_its_zeros(root: Path, tmp_path: Path) -> None:
    """Without retraining; with a sparsity of its own it prunes further."""
    run = str(root / "rounds" / "pruned-60")
    compress.main(["--checkpoint", run, "--bits", "3", "--zero", "float", "--out", str(tmp_path / "a")])
    size = read_artifact(tmp_path / "a").manifest["size"]
    masks = load_model(run, warn=pytest.fail).masks
    assert size["weights"] - size["nonzeros"] == sum(int((~mask).sum()) for mask in masks.values())
    compress.main(["--checkpoint", run, "--sparsity", "0.7", "--out", str(tmp_path / "b")])
    entries = read_artifact(tmp_path / "b").manifest["tensors"]
    further = sum(e["weights"] - e["nonzeros"] for e in entries.values())
    assert further > size["weights"] - size["nonzeros"]


KILLED = """
import os, signal, sys
from tlc_jax.runs import saving
from tlc_jax import compress

wait = saving.seal
def seal(folder, about):
    if folder.parent.parent.name == "pruned-90" and about["step"]:
        os.kill(os.getpid(), signal.SIGKILL)
    return wait(folder, about)

saving.seal = seal
compress.main(sys.argv[1:])
"""


@pytest.mark.slow
def test_killed_in_the_middle_of_the_rounds_it_ends_with_the_same_bytes(root: Path, tmp_path: Path) -> None:
    """kill -9 while the last round seals its first checkpoint; then the same command again."""
    command = order(root, tmp_path / "rounds", tmp_path / "artifact")
    done = subprocess.run([sys.executable, "-c", KILLED, *command], check=False)
    assert done.returncode == -signal.SIGKILL
    assert (tmp_path / "rounds" / "pruned-90").exists()
    assert not any((tmp_path / "artifact").glob("*"))
    compress.main(command)
    ours, theirs = (place / "artifact" for place in (root, tmp_path))
    assert (ours / "model.safetensors").read_bytes() == (theirs / "model.safetensors").read_bytes()


@pytest.mark.slow
def test_what_cannot_be_is_refused(root: Path, tmp_path: Path) -> None:
    recipe = ["--config", str(root / "recipe.py"), "--out", str(tmp_path / "out")]
    with pytest.raises(UserError, match="give --workdir"):
        compress.main(["--checkpoint", str(root / "run"), *recipe])
    with pytest.raises(UserError, match="has none: omit it"):
        compress.main([*recipe[2:], "--checkpoint", str(root / "run"), "--workdir", str(tmp_path / "w")])
    with pytest.raises(ValueError, match="the sparsity, which is 0: give --sparsity"):
        CompressConfig(recovery=RecoveryConfig())
    twice = (PruneMagnitude(0.5, recovery=RecoveryConfig()),) * 2
    with pytest.raises(UserError, match="2 steps of the recipe prune in rounds"):
        prune_in_rounds(str(root / "run"), twice, tmp_path / "w", Console(quiet=True))
    with pytest.raises(ValueError, match="must rise"):
        RecoveryConfig(levels=(0.3, 0.2))
