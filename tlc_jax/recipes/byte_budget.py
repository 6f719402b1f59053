"""Bits, granularity and sparsity for each tensor, so that a file of a given size loses least; compared with
files of that size in which they are the same for all tensors, so that the result is no worse than those.
The best of these that has pruned weights is tried with each granularity.

Where the inputs of matrices are known, the mix and the best of the others are also rounded with compensation
(GPTQ), and where the best has pruned weights, a file of its bits is pruned with compensation (SparseGPT). All
are measured alike: a candidate more never makes the result worse by its measure.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import numpy as np
from rich.console import Console

from tlc_jax.artifacts.artifact import file_bytes
from tlc_jax.compression.methods import FitBytes, PruneCompensated, QuantizeCompensated
from tlc_jax.compression.pipeline import Plan
from tlc_jax.compression.steps import Needs, Recipe
from tlc_jax.config.quantization import QuantSpec
from tlc_jax.core.errors import UserError
from tlc_jax.recipes.budget_rules import Rules
from tlc_jax.recipes.budget_search import MIX, Search, Source
from tlc_jax.recipes.sensitivity import GRANULARITIES, RANGE
from tlc_jax.recipes.tuning_evaluator import TuningEvaluator


@dataclass(frozen=True)
class Fit:
    """The plan of a recipe whose byte budget is spent. `report` is the manifest's on all candidates, with the
    rules of the best."""

    plan: Plan
    report: dict[str, Any]


@dataclass(frozen=True)
class Candidate:
    """A way to stay within the budget; `damage` is that of all tensors together."""

    name: str
    rules: Rules
    file_bytes: int
    damage: float
    metrics: dict[str, float]
    kind: str
    """What its rules are made by: the mix, a number of bits ('4 bits', or '4 bits, row' with another
    granularity than the recipe's), or a granularity."""
    steps: Recipe = ()
    """Further steps, which know the inputs of matrices."""

    def __str__(self) -> str:
        start = f"  {self.name:28s} {self.file_bytes:12,} bytes  damage {self.damage:9.4g}  "
        return start + _listed(self.metrics)

    def record(self) -> dict[str, Any]:
        """For the manifest of an artifact."""
        steps = [step.recorded() for step in self.steps]
        return {
            "name": self.name,
            "file_bytes": self.file_bytes,
            "damage": self.damage,
            **self.metrics,
            **({"steps": steps} if steps else {}),
        }


def has_budget(recipe: Recipe) -> bool:
    """Whether the recipe leaves bits and sparsities to `fit_bytes`. UserError where other steps measure what
    is chosen there."""
    needs = {step.needs for step in recipe}
    if needs >= {Needs.SEARCH, Needs.CALIBRATION}:
        raise UserError(
            "--target-mb tries compensation by itself, and chooses bits and zeros before it: leave out the "
            "steps that need calibration data"
        )
    return Needs.SEARCH in needs


def fit_bytes(recipe: Recipe, source: Source, evaluate: TuningEvaluator | None, console: Console) -> Fit:
    """Find the rules of the best candidate within the recipe's budget. The best one has the best primary
    metric by `evaluate`, of equals the least damage; without `evaluate`, the least damage. UserError where
    nothing fits."""
    index, *more = (i for i, step in enumerate(recipe) if step.needs is Needs.SEARCH)
    if more:
        raise UserError(f"the recipe has {1 + len(more)} byte budgets: leave one of them")
    step, search = cast(FitBytes, recipe[index]), Search(source, recipe, index)
    if step.spec.bits != QuantSpec.bits or step.spec.range not in (QuantSpec.range, RANGE):
        console.print(
            f"bits and ranges are chosen for the budget: those of {step.spec} are used only where another "
            "step converts a tensor"
        )
    budget = round(step.megabytes * 1e6)
    if (least := search.file_bytes(search.smallest())) > budget:
        raise UserError(
            f"--target-mb {step.megabytes:g} cannot be reached: the file has {least:,} bytes at least; give "
            f"--target-mb {least / 1e6:.6f} or more"
        )
    if not search.mixed:
        console.print("other steps decide for every matrix: nothing is left to choose for the budget")
    if evaluate is not None:
        console.print(f"uncompressed: {_listed(evaluate(dict(source.tensors)))}")
    candidates: list[Candidate] = []

    def consider(name: str, kind: str, rules: Rules, steps: Recipe = ()) -> None:
        candidate = _measured(search, source, name, kind, rules, steps, evaluate)
        if candidate.file_bytes > budget:
            console.print(f"  {name} is left out: {candidate.file_bytes:,} bytes")
            return
        candidates.append(candidate)
        console.print(str(candidate))

    for kind, make in search.makers(console):
        rules = search.fitting(make, budget)
        if rules is None and kind == MIX:
            rules = search.smallest()
        if rules is not None and rules not in [candidate.rules for candidate in candidates]:
            consider(kind if kind == MIX else "", kind, rules)
    for kind, rules in list(_finer(candidates, search, budget, evaluate)):
        if rules not in [candidate.rules for candidate in candidates]:
            consider("", kind, rules)
    if source.inputs is not None and search.mixed:
        for each in list(_calibrated(candidates, search, budget, evaluate)):
            consider(*each)
    best = _best(candidates, evaluate)
    console.print(f"best: {best.name}")
    records = [candidate.record() for candidate in candidates]
    report = {
        "megabytes": step.megabytes,
        "chosen": best.name,
        "candidates": records,
        "rules": [dataclasses.asdict(rule) for rule in best.rules.values()],
    }
    return Fit(search.plan(best.rules, best.steps), report)


def mixes(recipe: Recipe, source: Source, budgets: Iterable[int], console: Console) -> Iterator[Fit]:
    """The mix of each budget in bytes, up to the last that can be reached, in place of the recipe's own. What
    they depend on is the source alone, and its tensors are measured once, before the first."""
    index = next(i for i, step in enumerate(recipe) if step.needs is Needs.SEARCH)
    search = Search(source, recipe, index)
    make = search.mix(console)
    for budget in budgets:
        if (rules := search.fitting(make, budget)) is None:
            return
        report = {"megabytes": budget / 1e6, "chosen": MIX}
        rules_of = [dataclasses.asdict(rule) for rule in rules.values()]
        yield Fit(search.plan(rules), {**report, "rules": rules_of})


def _best(candidates: list[Candidate], evaluate: TuningEvaluator | None) -> Candidate:
    """That of the best primary metric, of equals the one that does least damage."""
    by_damage = sorted(candidates, key=lambda candidate: candidate.damage)
    if evaluate is None:
        return by_damage[0]
    return evaluate.metric.best(by_damage, lambda candidate: candidate.metrics[evaluate.key])


def _measured(
    search: Search,
    source: Source,
    name: str,
    kind: str,
    rules: Rules,
    steps: Recipe,
    evaluate: TuningEvaluator | None,
) -> Candidate:
    leaves = dict(search.compressed(rules, steps))
    values = {key: np.asarray(leaf.dense()) for key, leaf in leaves.items()}
    metrics, damage = evaluate(values) if evaluate else {}, source.damage(values)
    name = name or search.described(kind, rules, leaves)
    return Candidate(name, rules, file_bytes(leaves.items()), damage, metrics, kind, steps)


def _finer(
    candidates: list[Candidate], search: Search, budget: int, evaluate: TuningEvaluator | None
) -> Iterator[tuple[str, Rules]]:
    """The number of bits of the best pruned candidate with every granularity, each with as many zeros as it
    needs to fit."""
    if (best := _best_pruned(candidates, evaluate)) is None:
        return
    bits = _bits_of(best)
    for granularity in GRANULARITIES:
        rules = search.fitting(partial(search.uniform, bits, granularity=granularity), budget)
        if rules is not None:
            yield f"{bits} bits, {granularity}", rules


def _best_pruned(candidates: list[Candidate], evaluate: TuningEvaluator | None) -> Candidate | None:
    """The best candidate with one number of bits and pruned weights."""
    pruned = [
        candidate
        for candidate in candidates
        if candidate.kind.partition(" ")[2].startswith("bits")
        and any(rule.sparsity for rule in candidate.rules.values())
    ]
    return _best(pruned, evaluate) if pruned else None


def _bits_of(candidate: Candidate) -> int:
    return int(candidate.kind.partition(" ")[0])


def _calibrated(
    candidates: list[Candidate], search: Search, budget: int, evaluate: TuningEvaluator | None
) -> Iterator[tuple[str, str, Rules, Recipe]]:
    """The mix and the best uniform candidate with compensation, and a file with as many bits as the best
    uniform one with pruned weights, pruned with compensation."""
    uniform = [candidate for candidate in candidates if candidate.kind != MIX]
    chosen = [candidate for candidate in candidates if candidate.kind == MIX]
    for candidate in (*chosen, *([_best(uniform, evaluate)] if uniform else [])):
        prunes = any(rule.sparsity for rule in candidate.rules.values())
        steps = (*([PruneCompensated(0.0)] if prunes else []), QuantizeCompensated())
        yield f"{candidate.name}, compensated", candidate.kind, candidate.rules, steps
    if (best := _best_pruned(uniform, evaluate)) is None:
        return
    bits, granularity = _bits_of(best), best.kind.partition(", ")[2]
    rules = search.fitting(partial(search.equal_shares, bits, granularity=granularity), budget)
    share = max((rule.sparsity or 0.0 for rule in rules.values()), default=0.0) if rules else 0.0
    if rules and share:
        free = {name: dataclasses.replace(rule, sparsity=None) for name, rule in rules.items()}
        steps = (PruneCompensated(share), QuantizeCompensated())
        yield f"{best.kind}, {100 * share:.0f} % pruned and compensated", best.kind, free, steps


def _listed(metrics: Mapping[str, float]) -> str:
    return "  ".join(f"{key.removeprefix('eval/')} {x:.4g}" for key, x in metrics.items())
