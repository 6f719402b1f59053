"""A file of so many bytes: sensitivities against plain numpy, the mix against uniform choices."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import hypothesis
import hypothesis.strategies as st
import jax
import numpy as np
import pytest
import safetensors.numpy
from rich.console import Console

from tests import builders
from tlc_jax import compress, evaluate, inspect, report
from tlc_jax.artifacts.artifact import WEIGHTS, file_bytes, read_artifact
from tlc_jax.compression.input_statistics import InputStatistics
from tlc_jax.compression.methods import ByRule, FitBytes, PruneMagnitude
from tlc_jax.compression.pipeline import Compressed, make_plan
from tlc_jax.compression.pipeline import compress as compress_tensors
from tlc_jax.compression.prune import magnitude_masks
from tlc_jax.compression.quantize import quantize_tensor
from tlc_jax.config.quantization import QuantSpec, Rule
from tlc_jax.core.errors import UserError
from tlc_jax.core.stacked import join, split
from tlc_jax.recipes.budget_rules import expected_bytes, kept_weights
from tlc_jax.recipes.budget_search import Source
from tlc_jax.recipes.byte_budget import fit_bytes
from tlc_jax.recipes.sensitivity import Divergence, sensitivity_of, squared_error
from tlc_jax.recipes.tuning_evaluator import task_of
from tlc_jax.runs.load import load_model


@pytest.fixture(scope="module")
def mixed(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("mix") / "out"
    compress.main(["--checkpoint", str(finished), "--target-mb", "0.026", "--out", str(out)])
    return out


@pytest.mark.slow
def test_divergence_is_that_of_the_predictions(finished: Path) -> None:
    """sum p log(p / q) over masked tokens, from the logits of both models, in float64."""
    model = load_model(str(finished), warn=pytest.fail)
    task, tensors = task_of(model), split(jax.device_get(model.params))
    name = "encoder/token_embedding"
    found = sensitivity_of(
        name, tensors[name], Rule(".*", QuantSpec(), True), None,
        Divergence(task, tensors, model.config, examples=16),
    )  # fmt: skip
    smallest = np.sort(np.abs(tensors[name]).ravel())[round(0.75 * tensors[name].size) - 1]
    changed = {**tensors, name: np.where(np.abs(tensors[name]) > smallest, tensors[name], 0)}
    total = weight = 0.0
    for step in range(2):  # micro-batches of 8 rows
        batch = jax.device_put(task.train_batch(step, lambda _: slice(0, 8)))
        logits = [
            np.asarray(task.logits(jax.device_put(join(own)), batch), np.float64)[batch["weights"] > 0]
            for own in (tensors, changed)
        ]
        p, q = (np.exp(x) / np.exp(x).sum(-1, keepdims=True) for x in logits)
        total, weight = total + (p * np.log(p / q)).sum(), weight + len(p)
    assert found.pruned[0.75] == pytest.approx(total / weight, rel=1e-3)
    assert 0 < found.pruned[0.15] < found.pruned[0.75] < found.pruned[0.90]
    assert found.quantized[8] < found.quantized[4] < found.quantized[2]


@pytest.mark.slow
def test_the_file_is_within_its_budget_and_the_best_is_written(mixed: Path, finished: Path) -> None:
    manifest = read_artifact(mixed).manifest
    target, size = manifest["target"], (mixed / WEIGHTS).stat().st_size
    chosen = next(own for own in target["candidates"] if own["name"] == target["chosen"])
    assert 0.9 * 26_000 < size == chosen["file_bytes"] <= 26_000
    assert all(own["file_bytes"] <= 26_000 for own in target["candidates"])
    names = [own["name"].split(",")[0] for own in target["candidates"]]
    assert names[0] == "mix"
    assert {"4 bits", "2 bits"} <= set(names)
    losses = [own["eval/held_out/loss"] for own in target["candidates"]]
    assert chosen["eval/held_out/loss"] == min(losses)
    assert chosen["damage"] < max(own["damage"] for own in target["candidates"])


@pytest.mark.slow
def test_what_was_measured_is_what_the_artifact_does(
    mixed: Path, corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = read_artifact(mixed).manifest["target"]
    chosen = next(own for own in target["candidates"] if own["name"] == target["chosen"])
    capsys.readouterr()
    evaluate.main(["--checkpoint", str(mixed), "--data.dir", str(corpus), "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["eval/held_out/loss"] == pytest.approx(chosen["eval/held_out/loss"], abs=1e-4)


@pytest.mark.slow
def test_too_few_bytes(tmp_path: Path) -> None:
    """The message says how many are enough, and they are."""
    (tmp_path / "hf").mkdir()
    weights = np.random.default_rng(0).normal(size=(2, 256, 256)).astype(np.float32)
    safetensors.numpy.save_file({"a": weights[0], "b": weights[1]}, tmp_path / "hf" / "model.safetensors")
    out, command = tmp_path / "out", ["--hf", str(tmp_path / "hf"), "--out", str(tmp_path / "out")]
    with pytest.raises(UserError, match=r"0\.001 cannot be reached: the file has") as caught:
        compress.main([*command, "--target-mb", "0.001"])
    assert not out.exists()
    enough = re.search(r"give --target-mb (\d+\.\d+)", str(caught.value))
    assert enough
    compress.main([*command, "--target-mb", enough[1]])
    assert (out / WEIGHTS).stat().st_size <= round(float(enough[1]) * 1e6)


@pytest.mark.slow
def test_an_artifact_has_no_data(mixed: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is an artifact and has no data"):
        compress.main(["--checkpoint", str(mixed), "--target-mb", "1", "--out", str(tmp_path / "out")])


@pytest.mark.slow
def test_anybodys_checkpoint(tmp_path: Path) -> None:
    """Without data the squared error counts; a mix is then never worse than one choice for all."""
    rng = np.random.default_rng(0)
    tensors = {
        "quiet.weight": rng.normal(size=(64, 64)).astype(np.float32) * 0.3,
        "loud.weight": rng.standard_t(3, size=(64, 64)).astype(np.float32),
        "loud.bias": rng.normal(size=64).astype(np.float32),
        "ids": np.arange(8),
        "nothing": np.zeros((0, 5), np.float32),
    }
    (tmp_path / "hf").mkdir()
    safetensors.numpy.save_file(tensors, tmp_path / "hf" / "model.safetensors")
    out = tmp_path / "out"
    compress.main(["--hf", str(tmp_path / "hf"), "--target-mb", "0.0042", "--out", str(out)])
    inspect.main([str(out)])
    artifact = read_artifact(out)
    target = artifact.manifest["target"]
    damages = [own["damage"] for own in target["candidates"]]
    assert damages[0] == min(damages)
    assert (out / WEIGHTS).stat().st_size <= 4200
    bits = {name: entry["bits"] for name, entry in artifact.manifest["tensors"].items()}
    assert bits["quiet.weight"] < bits["loud.weight"]
    values = {name: leaf.dense() for name, leaf in artifact.tensors.items()}
    lost = sum(((np.asarray(values[name]) - x) ** 2).sum() for name, x in tensors.items())
    assert damages[0] == pytest.approx(
        lost / sum((x**2).sum() for name, x in tensors.items() if name != "ids"), rel=1e-3
    )


@pytest.mark.slow
def test_a_candidate_is_what_its_rules_make_of_the_tensors_whatever_their_order() -> None:
    """The uniform ones too: the smallest weights of all, one number of bits, vectors at 8 bits."""
    rng = np.random.default_rng(0)
    sizes = {"b.weight": (64, 48), "c.bias": (48,), "a.weight": (32, 96)}
    tensors = {name: rng.standard_t(4, size=size).astype(np.float32) for name, size in sizes.items()}
    damage = squared_error(tensors, list(tensors))
    recipe, reports = (FitBytes(0.0025, QuantSpec()),), []
    for names in (list(tensors), sorted(tensors), sorted(tensors, reverse=True)):
        ordered = {name: tensors[name] for name in names}
        fit = fit_bytes(recipe, Source(ordered, {}, damage, ordered), None, Console(quiet=True))
        reports.append(fit.report)
    assert [own["name"] for own in reports[0]["candidates"]] == [
        own["name"] for own in reports[1]["candidates"]
    ]
    matrices = {name: x for name, x in tensors.items() if x.ndim == 2}
    pattern = re.compile(r"\d bits, \d+ % pruned")
    alike = [own for own in reports[0]["candidates"] if pattern.fullmatch(own["name"])]
    assert len(alike) >= 4
    for candidate in alike:
        bits, share = (int(n) for n in re.findall(r"\d+", candidate["name"]))
        lost = []
        for sparsity in (share - 0.6, share + 0.6):  # the name is rounded
            masks = magnitude_masks(matrices, max(sparsity, 0) / 100)
            rules = tuple(
                Rule(re.escape(name), QuantSpec(bits if x.ndim == 2 else 8, range="mse"))
                for name, x in tensors.items()
            )
            lost.append(damage(compress_tensors(tensors, (ByRule(rules),), masks=masks).dense()))
        assert 0.9 * min(lost) <= candidate["damage"] <= 1.1 * max(lost)


def with_rows(granularity: str) -> tuple[dict[str, np.ndarray], FitBytes, Source]:
    """Matrices whose rows need a range each, but no more of them, and the bytes of 4 bits by rows."""
    rng = np.random.default_rng(0)
    shapes = {"a.weight": (48, 256), "b.weight": (48, 256), "b.bias": (64,)}
    tensors = {}
    for name, shape in shapes.items():
        scale = rng.uniform(0.5, 2, (shape[0], *(1,) * (len(shape) - 1)))
        tensors[name] = (rng.normal(size=shape) * scale).astype(np.float32)
    size = file_bytes(uniform(tensors, 4, "row").tensors.items())
    source = Source(tensors, {}, squared_error(tensors, list(tensors)), tensors)
    return tensors, FitBytes(size / 1e6, QuantSpec(granularity=granularity)), source


def uniform(tensors: dict[str, np.ndarray], bits: int, granularity: str, masks: Any = None) -> Compressed:
    rules = [
        Rule(
            re.escape(name), QuantSpec(bits, granularity, "mse") if x.ndim == 2 else QuantSpec(8, range="mse")
        )
        for name, x in tensors.items()
    ]
    return compress_tensors(tensors, (ByRule(tuple(rules)),), masks=masks or {})


@pytest.mark.parametrize("granularity", ["group:32", pytest.param("tensor", marks=pytest.mark.slow)])
def test_no_uniform_choice_of_that_size_is_better(granularity: str) -> None:
    """All bits and granularities that a user could have given, measured here."""
    tensors, step, source = with_rows(granularity)
    fit = fit_bytes((step,), source, None, Console(quiet=True))
    found = compress_tensors(tensors, (ByRule(tuple(fit.plan.rules.values())),))
    assert file_bytes(found.tensors.items()) <= round(step.megabytes * 1e6)
    damage, better = source.damage(found.dense()), {}
    for bits, other in itertools.product((2, 3, 4, 5, 6, 8), ("tensor", "row", "group:64", "group:32")):
        made = uniform(tensors, bits, other)
        if file_bytes(made.tensors.items()) <= round(step.megabytes * 1e6):
            better[bits, other] = source.damage(made.dense())
    assert (4, "row") in better
    assert damage <= min(better.values()) * (1 + 1e-6), better


@pytest.mark.slow
def test_no_uniform_choice_with_zeros_is_better() -> None:
    """Fewer bytes than 4 bits need: some bits by rows, with as many zeros as it takes to fit."""
    tensors, step, source = with_rows("tensor")
    budget = round(0.9e6 * step.megabytes)
    fit = fit_bytes((dataclasses.replace(step, megabytes=budget / 1e6),), source, None, Console(quiet=True))
    matrices = {name: x for name, x in tensors.items() if x.ndim == 2}
    names, tried = [own["name"] for own in fit.report["candidates"]], []
    for bits, granularity in itertools.product((3, 4, 5, 6), ("tensor", "row", "group:64")):
        for sparsity in np.arange(0.02, 0.8, 0.02):
            masks = magnitude_masks(matrices, sparsity)
            made = uniform(tensors, bits, granularity, masks)
            if file_bytes(made.tensors.items()) <= budget:
                tried.append(source.damage(made.dense()))
                break
    assert min(own["damage"] for own in fit.report["candidates"]) <= min(tried) * (1 + 1e-6)
    assert any(re.fullmatch(r"\d bits, row, \d+ % pruned", name) for name in names), names


@hypothesis.settings(deadline=None, max_examples=60)
@hypothesis.given(
    bits=st.sampled_from(list(range(1, 9))),
    granularity=st.sampled_from(["tensor", "row", "group:32"]),
    zero=st.sampled_from(["nudged", "float", "symmetric"]),
    range_dtype=st.sampled_from(["float32", "bfloat16"]),
    pruned=st.sampled_from([0.0, 0.1, 0.5, 0.9]),
)
def test_expected_bytes_are_those_that_are_stored(
    bits: int, granularity: str, zero: Any, range_dtype: Any, pruned: float
) -> None:
    """Of weights of both signs, whose code of zero at 8 bits needs two bytes in some block."""
    hypothesis.assume(not (zero == "symmetric" and bits == 1))
    x = np.random.default_rng(0).normal(0.01, 1, size=(64, 96)).astype(np.float32)
    mask = np.random.default_rng(1).random(x.shape) >= pruned if pruned else None
    rule = Rule("x", QuantSpec(bits, granularity, zero=zero, range_dtype=range_dtype))
    leaf = quantize_tensor("x", x, rule.quant, mask)
    expected = expected_bytes("x", x, rule, kept_weights(x, mask))
    assert expected == leaf.sizes().format_bytes


@pytest.mark.parametrize("bits", [2.5, pytest.param(4, marks=pytest.mark.slow)])
def test_steps_that_know_the_inputs_are_candidates(bits: float) -> None:
    """By the error of the outputs: no uniform choice is better, and what is said of a candidate is what its
    rules and steps do."""
    rng = np.random.default_rng(0)
    tensors = {f"{name}.weight": rng.normal(size=(24, 64)).astype(np.float32) for name in "ab"}
    inputs = {}
    for name in tensors:
        x = rng.normal(size=(200, 64)) @ rng.normal(size=(64, 64))
        inputs[name] = InputStatistics(x.T @ x / len(x))
    moments = {name: np.asarray(known.second_moment) for name, known in inputs.items()}

    def damage(changed: Mapping[str, Any]) -> float:
        errors = {name: np.asarray(v, np.float64) - tensors[name] for name, v in changed.items()}
        return sum(float(np.trace(d @ moments[name] @ d.T)) for name, d in errors.items())

    budget = round(2 * 24 * 64 * bits / 8) + 500
    source = Source(tensors, {}, damage, tensors, inputs)
    fit = fit_bytes((FitBytes(budget / 1e6),), source, None, Console(quiet=True))
    candidates = {own["name"]: own for own in fit.report["candidates"]}
    chosen = candidates[fit.report["chosen"]]
    leaves = {name: fit.plan.convert(name, x) for name, x in tensors.items()}
    assert file_bytes(leaves.items()) == chosen["file_bytes"] <= budget
    assert damage({name: leaf.dense() for name, leaf in leaves.items()}) == pytest.approx(chosen["damage"])
    assert chosen["damage"] == min(own["damage"] for own in candidates.values())
    assert candidates["mix, compensated"]["damage"] < candidates["mix"]["damage"]
    assert candidates["mix, compensated"]["steps"][-1]["step"] == "QuantizeCompensated"
    for count, granularity in itertools.product((2, 3, 4), ("tensor", "row", "group:32")):
        made = uniform(tensors, count, granularity)
        if file_bytes(made.tensors.items()) <= budget:
            assert chosen["damage"] <= damage(made.dense()) * (1 + 1e-6)


@pytest.mark.parametrize("option", ["--heads", "--feed-forward-size"])
def test_anybodys_checkpoint_has_no_heads(tmp_path: Path, option: str) -> None:
    safetensors.numpy.save_file({"w": np.ones((4, 4), np.float32)}, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=r"can only be removed from a run"):
        compress.main(["--hf", str(tmp_path), option, "1", "--out", str(tmp_path / "out")])


def test_a_folder_that_cannot_be_made_is_told_before_the_work(finished: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    command = ["--checkpoint", str(finished), "--target-mb", "1", "--out", str(tmp_path / "file" / "out")]
    with pytest.raises(UserError, match="cannot be made"):
        compress.main(command)


def test_squared_error_of_some() -> None:
    tensors = {"a": np.array([3.0, 4.0]), "b": np.array([5.0, 0.0])}
    assert squared_error(tensors, ["a", "b"])({"a": np.array([0.0, 4.0])}) == pytest.approx(9 / 50)


def test_a_rule_with_a_sparsity_of_its_own() -> None:
    """Its tensors are pruned each by itself; the others together."""
    rng = np.random.default_rng(0)
    tensors = {name: rng.normal(size=(10, 10)) * scale for name, scale in (("a", 1), ("b", 9), ("c", 1))}
    rules = {name: Rule(name, QuantSpec(), prune=True) for name in tensors}
    rules["b"] = dataclasses.replace(rules["b"], sparsity=0.3)
    by_rule = ByRule(tuple(rules.values()))
    masks = make_plan(tensors, (by_rule, PruneMagnitude(0.5))).masks
    assert [int((~masks[name]).sum()) for name in "b"] == [30]
    assert int((~masks["a"]).sum() + (~masks["c"]).sum()) == 100
    assert make_plan(tensors, (by_rule,)).masks.keys() == {"b"}
    with pytest.raises(ValueError, match="prune=True"):
        Rule("x", QuantSpec(), sparsity=0.5)


@pytest.mark.slow
def test_length_of_a_file_that_is_not_written(mixed: Path) -> None:
    artifact = read_artifact(mixed)
    assert file_bytes(artifact.tensors.items()) == (mixed / WEIGHTS).stat().st_size


@pytest.mark.slow
def test_steps_before_the_budget_are_done_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Half of all weights are pruned whatever the budget allows, and bits are the budget's choice."""
    weights = np.random.default_rng(0).normal(size=(2, 64, 64)).astype(np.float32)
    safetensors.numpy.save_file({"a": weights[0], "b": 3 * weights[1]}, tmp_path / "model.safetensors")
    out, options = tmp_path / "out", ["--target-mb", "0.1", "--sparsity", "0.5", "--bits", "4"]
    compress.main(["--hf", str(tmp_path), *options, "--out", str(out)])
    manifest = read_artifact(out).manifest
    assert manifest["size"]["nonzeros"] == weights.size // 2
    assert {entry["bits"] for entry in manifest["tensors"].values()} == {8}, "the budget has room for more"
    said = capsys.readouterr().out
    assert "bits and ranges are chosen for the budget: those of 4 bits" in said
    assert re.search(r"^  mix +[\d,]+ bytes  damage ", said, re.MULTILINE)


@pytest.mark.slow
def test_report_of_sensitivity(finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "sensitivity.jsonl"
    report.main(["sensitivity", "--run", str(finished), "--examples", "8", "--output", str(out)])
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    matrices = [
        name for name, x in split(builders.nested(builders.parameters(finished))).items() if x.ndim == 2
    ]
    assert [line["tensor"] for line in lines] == matrices
    table = next(line for line in lines if line["tensor"] == "encoder/token_embedding")
    assert 0 < table["quantized"]["8"] < table["quantized"]["2"] < table["pruned"]["0.9"]


BEFORE = """
from tlc_jax.compression.methods import ByRule, FitBytes, LowRank, PruneMagnitude, Quantize
from tlc_jax.config import CompressConfig
from tlc_jax.config.quantization import QuantSpec, Rule

HALF = Rule("half", QuantSpec(6), prune=True, sparsity=0.5)
RULES = (Rule("kept", QuantSpec(7, "row")), HALF, Rule("float"))
BUDGET = FitBytes(0.0145, QuantSpec(granularity="row"), matrices_only=True)


def get_config():
    return CompressConfig(granularity="row", matrices_only=True, {options})
"""
BUDGETS = {
    "rules, then --target-mb": "rules=RULES, steps=(LowRank(rank=4),), target_mb=0.0145",
    "steps only": "steps=(ByRule(RULES), LowRank(rank=4), BUDGET)",
    "steps in another order": "steps=(ByRule(RULES), BUDGET, LowRank(rank=4))",
}


@pytest.mark.parametrize("options", BUDGETS.values(), ids=BUDGETS)
def test_a_budget_is_for_what_other_steps_leave(
    options: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rules and factors are kept, and their bytes count; the rules that are found are recorded."""
    rng = np.random.default_rng(0)
    sizes = {"kept": (16, 32), "half": (32, 16), "float": (8, 8), "free": (32, 64), "wide": (96, 64)}
    sizes |= {"bias": (64,), "small": (6, 4)}
    tensors = {name: rng.standard_t(4, size=size).astype("f4") for name, size in sizes.items()}
    (tmp_path / "hf").mkdir()
    safetensors.numpy.save_file(tensors, tmp_path / "hf" / WEIGHTS)
    (tmp_path / "recipe.py").write_text(BEFORE.format(options=options))
    out = tmp_path / "out"
    compress.main(["--hf", str(tmp_path / "hf"), "--config", str(tmp_path / "recipe.py"), "--out", str(out)])
    manifest, entries = read_artifact(out).manifest, read_artifact(out).manifest["tensors"]
    quantized = {
        n: [entries[n][key] for key in ("bits", "granularity", "nonzeros")] for n in ("kept", "half")
    }
    assert quantized == {"kept": [7, "row", 512], "half": [6, "tensor", 256]}
    assert (entries["float"]["bits"], entries["bias"]["bits"]) == (32, 32)
    for name in ("free", "wide"):
        assert (entries[name]["layout"], entries[name]["rank"], entries[name]["bits"]) == ("low_rank", 4, 8)
    assert entries["small"]["layout"] == "dense"
    assert (out / WEIGHTS).stat().st_size <= 14_500
    found = {rule["pattern"]: rule["quant"] for rule in manifest["target"]["rules"]}
    assert (found["small"]["bits"], found["small"]["range"]) == (entries["small"]["bits"], "mse")
    assert "FitBytes" in [step["step"] for step in manifest["recipe"]]
    assert "not factored (rank 4), since that saves no bytes: small\n" in capsys.readouterr().out


def test_two_budgets_are_refused(tmp_path: Path) -> None:
    (tmp_path / "hf").mkdir()
    safetensors.numpy.save_file({"a.weight": np.ones((8, 8), "f4")}, tmp_path / "hf" / WEIGHTS)
    (tmp_path / "recipe.py").write_text(
        "from tlc_jax.compression.methods import FitBytes\nfrom tlc_jax.config import CompressConfig\n\n"
        "def get_config():\n    return CompressConfig(steps=(FitBytes(),), target_mb=1.0)\n"
    )
    options = ["--hf", str(tmp_path / "hf"), "--config", str(tmp_path / "recipe.py")]
    with pytest.raises(UserError, match="the recipe has 2 byte budgets: leave one of them"):
        compress.main([*options, "--out", str(tmp_path / "out")])
