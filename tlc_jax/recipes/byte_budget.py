"""Bits, granularity and sparsity for each tensor, so that a file of a given size loses least; compared with
files of that size in which they are the same for all tensors, so that the result is no worse than those."""

from __future__ import annotations

import dataclasses
import itertools
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from rich.console import Console

from tlc_jax.artifacts.artifact import file_bytes
from tlc_jax.compression.allocate import Option, allocate
from tlc_jax.compression.methods import FitBytes, Quantize
from tlc_jax.compression.methods.by_rule import prune_each
from tlc_jax.compression.pipeline import Plan, choose_rules, make_plan
from tlc_jax.compression.prune import magnitude_masks
from tlc_jax.compression.quantize import block_shape, row_length
from tlc_jax.compression.select import UNDIVIDED
from tlc_jax.compression.steps import Needs, Recipe
from tlc_jax.config.quantization import QuantSpec, Rule
from tlc_jax.core import sizes
from tlc_jax.core.errors import UserError
from tlc_jax.core.leaf import Leaf, Masks
from tlc_jax.core.progress import stage
from tlc_jax.recipes.sensitivity import (
    BITS,
    GRANULARITIES,
    RANGE,
    SPARSITIES,
    Damage,
    Sensitivity,
    sensitivity_of,
)
from tlc_jax.recipes.tuning_evaluator import TuningEvaluator

VECTOR_BITS = 8  # vectors are few: fewer bits would save nothing
_TRIES = 8  # until the size of the file's header is known well enough
_SLACK = 64  # additional bytes with each try: the header depends on which tensors have a bitmap
_HALVINGS = 12  # of the interval of sparsities

Rules = dict[str, Rule]
Make = Callable[[int], Rules]
"""Rules whose tensors have at most so many bytes; UserError if there are none."""


@dataclass(frozen=True)
class Source:
    """The tensors to compress, which may be read from files, the masks of what is pruned already, and the
    damage that a change of some tensors does."""

    tensors: Mapping[str, Any]
    masks: Masks
    damage: Damage
    shapes: Mapping[str, Any]
    """Shapes and types of the tensors: a tensor may be slow to read."""


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

    def __str__(self) -> str:
        start = f"  {self.name:22s} {self.file_bytes:12,} bytes  damage {self.damage:9.4g}  "
        return start + _listed(self.metrics)

    def record(self) -> dict[str, Any]:
        """For the manifest of an artifact."""
        return {"name": self.name, "file_bytes": self.file_bytes, "damage": self.damage, **self.metrics}


def has_budget(recipe: Recipe) -> bool:
    """Whether the recipe leaves bits and sparsities to `fit_bytes`."""
    return any(step.needs is Needs.SEARCH for step in recipe)


def fit_bytes(recipe: Recipe, source: Source, evaluate: TuningEvaluator | None, console: Console) -> Fit:
    """Find the rules of the best candidate within the recipe's budget. The best one has the best primary
    metric by `evaluate`, of equals the least damage; without `evaluate`, the least damage. UserError where
    nothing fits."""
    index, *more = (i for i, step in enumerate(recipe) if step.needs is Needs.SEARCH)
    if more:
        raise UserError(f"the recipe has {1 + len(more)} byte budgets: leave one of them")
    step, search = cast(FitBytes, recipe[index]), _Search(source, recipe, index)
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
    for name, make in search.makers(console):
        rules = search.fitting(make, budget)
        if rules is None and name == "mix":
            rules = search.smallest()
        if rules is not None and rules not in [candidate.rules for candidate in candidates]:
            candidates.append(search.candidate(name, rules, evaluate))
            console.print(str(candidates[-1]))
    by_damage = sorted(candidates, key=lambda candidate: candidate.damage)
    best = by_damage[0]
    if evaluate is not None:
        best = evaluate.metric.best(by_damage, lambda candidate: candidate.metrics[evaluate.key])
    console.print(f"best: {best.name}")
    records = [candidate.record() for candidate in candidates]
    rules = [dataclasses.asdict(rule) for rule in best.rules.values()]
    report = {"megabytes": step.megabytes, "chosen": best.name, "candidates": records, "rules": rules}
    return Fit(search.plan(best.rules), report)


def _listed(metrics: Mapping[str, float]) -> str:
    return "  ".join(f"{key.removeprefix('eval/')} {x:.4g}" for key, x in metrics.items())


def sensitivities(source: Source, rules: Mapping[str, Rule], console: Console) -> dict[str, Sensitivity]:
    """The sensitivity of each matrix with a rule."""
    names = [n for n, x in source.shapes.items() if n in rules and x.ndim >= 2 and x.size]
    measured = {}
    weights = sum(source.shapes[name].size for name in names)
    with stage(console, f"sensitivity of {len(names)} matrices", weights, "weights") as advance:
        for name in names:
            mask, shape, quant = source.masks.get(name), source.shapes[name].shape, rules[name].quant
            granularities = {} if quant is None else granularities_of(name, shape, quant.granularity)
            measured[name] = sensitivity_of(
                name, source.tensors[name], rules[name], mask, source.damage, list(granularities)
            )
            advance(source.shapes[name].size)
    return measured


def granularities_of(name: str, shape: tuple[int, ...], granularity: str) -> dict[str, None]:
    """The granularities that differ for a tensor, its own first: groups divide its rows, or are rows."""
    divide = (g for g in GRANULARITIES if not (size := _group_size(g)) or not row_length(name, shape) % size)
    return dict.fromkeys((granularity, *divide))


def _group_size(granularity: str) -> int | None:
    return QuantSpec(granularity=granularity).group_size


class _Search:
    """The search for rules in place of the step FitBytes at `index` of a recipe. The other steps have pruned
    before, and what they decide or convert is as it is."""

    def __init__(self, source: Source, recipe: Recipe, index: int):
        self._source, step = source, cast(FitBytes, recipe[index])
        quantize = Quantize(step.spec, step.matrices_only)
        without = (*recipe[:index], quantize, *recipe[index + 1 :])
        plan = make_plan(source.tensors, without, masks=source.masks, shapes=source.shapes)
        self._plan, self._rules = dataclasses.replace(plan, recipe=recipe), plan.rules
        before, after = (choose_rules(source.shapes, without[:end])[0] for end in (index, index + 1))
        self._fixed: dict[str, Leaf] = {}
        for name, x in source.tensors.items():
            leaf = plan.convert_by_steps(name, x)
            if leaf.unconverted() is None:
                self._fixed[name] = leaf
            elif before[name].quant is not None or after[name].quant is None:
                self._fixed[name] = plan.convert(name, x)
        self.mixed = {n for n, x in source.shapes.items() if n not in self._fixed and x.ndim >= 2 and x.size}
        """The matrices that get bits and a sparsity of their own."""

    def makers(self, console: Console) -> Iterator[tuple[str, Make]]:
        """The names of the candidates, and functions that make their rules."""
        source = dataclasses.replace(self._source, masks=self._plan.masks)
        known = sensitivities(source, {name: self._rules[name] for name in self.mixed}, console)
        options = {name: list(self._options(name, x, known)) for name, x in self._source.shapes.items()}
        yield "mix", lambda limit: {name: option.what for name, option in allocate(options, limit).items()}
        for bits in BITS if self.mixed else ():
            yield f"{bits} bits", lambda limit, bits=bits: self._uniform(bits, limit)
        for granularity in GRANULARITIES if self.mixed else ():
            yield granularity, lambda limit, granularity=granularity: self._unpruned(granularity, limit)

    def plan(self, rules: Rules) -> Plan:
        """The plan of the recipe with these rules."""
        masks = prune_each(self._source.tensors, rules, self._plan.masks)
        return dataclasses.replace(self._plan, rules=rules, masks=masks)

    def smallest(self) -> Rules:
        """The fewest bits, ranges and weights for every matrix."""
        rules = self._uniform_rules(BITS[-1], GRANULARITIES[0])
        return {
            name: dataclasses.replace(rule, sparsity=SPARSITIES[-1])
            if name in self.mixed and rule.prune
            else rule
            for name, rule in rules.items()
        }

    def fitting(self, make: Make, budget: int) -> Rules | None:
        """Rules whose file, with its header, is within the budget; None if there are none."""
        limit = budget
        for tried in range(_TRIES):
            try:
                rules = make(limit)
            except UserError:
                return None
            over = self.file_bytes(rules) - budget
            if over <= 0:
                return rules
            limit -= over + _SLACK * tried
        return None

    def file_bytes(self, rules: Rules) -> int:
        """The size of the weights' file with these rules."""
        return file_bytes(self._compressed(rules))

    def candidate(self, name: str, rules: Rules, evaluate: TuningEvaluator | None) -> Candidate:
        """The candidate of these rules, measured."""
        leaves = dict(self._compressed(rules))
        if name != "mix":
            if name in GRANULARITIES:
                bits = {rule.quant.bits for key, rule in rules.items() if key in self.mixed and rule.quant}
                name = f"{max(bits, default=32)} bits, {name}"
            kept = [leaf.sizes() for leaf in leaves.values()]
            zeros = sum(size.weights - size.nonzeros for size in kept)
            prunable = sum(x.size for key, x in self._source.shapes.items() if self._rules[key].prune)
            name = f"{name}, {100 * zeros / max(prunable, 1):.0f} % pruned"
        values = {key: np.asarray(leaf.dense()) for key, leaf in leaves.items()}
        metrics = evaluate(values) if evaluate else {}
        return Candidate(name, rules, file_bytes(leaves.items()), self._source.damage(values), metrics)

    def _compressed(self, rules: Rules) -> Iterator[tuple[str, Leaf]]:
        """The leaves that the recipe makes with these rules, one at a time."""
        plan, tensors = self.plan(rules), self._source.tensors
        for name in tensors:
            fixed = self._fixed.get(name)
            yield name, plan.convert(name, tensors[name]) if fixed is None else fixed

    def _options(self, name: str, x: Any, known: Mapping[str, Sensitivity]) -> Iterator[Option]:
        """All ways to compress a tensor, each as its rule."""
        rule, before = self._rules[name], _kept(x, self._plan.masks.get(name))
        if name not in known:
            rule = self._uniform_rule(name, VECTOR_BITS)
            yield Option(self._bytes(name, x, rule, before), 0.0, rule)
            return
        for bits, granularity in itertools.product(BITS, known[name].shares or ("",)):
            for sparsity, damage in known[name].finer(bits, granularity).items():
                choice = _rule(name, rule, bits, sparsity or None, granularity)
                kept = min(before, x.size - round(sparsity * x.size))
                yield Option(_expected(name, x, choice, kept), damage, choice)

    def _uniform(self, bits: int, limit: int) -> Rules:
        """The same number of bits for all matrices, and the lowest sparsity that fits, with the smallest
        weights of all these pruned. Vectors have as many bits as in the mix."""
        rules = self._uniform_rules(bits)
        names = [name for name, rule in rules.items() if name in self.mixed and rule.prune]

        def masks(sparsity: float) -> Masks:
            before, tensors = self._plan.masks, self._source.tensors
            return {**before, **magnitude_masks(tensors, sparsity, previous=before, names=names)}

        def size(sparsity: float) -> int:
            pruned = masks(sparsity)
            return sum(
                self._bytes(name, x, rules[name], _kept(x, pruned.get(name)))
                for name, x in self._source.shapes.items()
            )

        low, high = 0.0, 0.99
        if size(high) > limit:
            raise UserError(f"{bits} bits do not fit")
        if size(low) <= limit:
            high = low
        for _ in range(_HALVINGS if high else 0):
            middle = (low + high) / 2
            low, high = (low, middle) if size(middle) <= limit else (middle, high)
        pruned = masks(high)
        shares = {
            name: dataclasses.replace(rules[name], sparsity=_share(pruned[name]) or None) for name in names
        }
        return {**rules, **shares}

    def _unpruned(self, granularity: str, limit: int) -> Rules:
        """The most bits of this granularity that fit without further pruning, the same for all matrices."""
        for bits in BITS:
            rules = self._uniform_rules(bits, granularity)
            kept = {name: _kept(x, self._plan.masks.get(name)) for name, x in self._source.shapes.items()}
            size = sum(self._bytes(n, x, rules[n], kept[n]) for n, x in self._source.shapes.items())
            if size <= limit:
                return rules
        raise UserError(f"{granularity} does not fit")

    def _uniform_rules(self, bits: int, granularity: str = "") -> Rules:
        return {name: self._uniform_rule(name, bits, granularity) for name in self._rules}

    def _uniform_rule(self, name: str, bits: int, granularity: str = "") -> Rule:
        """The rule of a tensor with so many bits if it is a matrix; as it is if other steps decide."""
        rule = self._rules[name]
        if name in self._fixed:
            return rule
        if name not in self.mixed:
            return _rule(name, rule, VECTOR_BITS)
        size, shape = granularity and _group_size(granularity), self._source.shapes[name].shape
        undivided = bool(size) and row_length(name, shape) % size != 0
        return _rule(name, rule, bits, granularity="row" if undivided else granularity)

    def _bytes(self, name: str, x: Any, rule: Rule, kept: int) -> int:
        """Bytes of a tensor of which `kept` weights are not pruned."""
        if (fixed := self._fixed.get(name)) is not None:
            return fixed.sizes().format_bytes
        return _expected(name, x, rule, kept)


def _rule(name: str, rule: Rule, bits: int, sparsity: float | None = None, granularity: str = "") -> Rule:
    """The rule of one tensor with other bits, another sparsity and, if one is given, another granularity."""
    spec, why = rule.quant and dataclasses.replace(rule.quant, bits=bits, range=RANGE), rule.why
    if spec and granularity:
        spec = dataclasses.replace(spec, granularity=granularity)
        why = "; ".join(part for part in why.split("; ") if part != UNDIVIDED)
    return dataclasses.replace(rule, pattern=re.escape(name), quant=spec, sparsity=sparsity, why=why)


def _kept(x: Any, mask: Any) -> int:
    return x.size if mask is None else int(np.sum(mask))


def _share(mask: Any) -> float:
    """The share of zeros, without the last weight: a rule cannot prune all of a tensor."""
    return min(float(np.mean(~mask)), 1 - 1 / mask.size) if mask.size else 0.0


def _expected(name: str, x: Any, rule: Rule, kept: int) -> int:
    """Bytes of a tensor of which `kept` weights are not pruned, before it is quantized."""
    if rule.quant is None or x.ndim == 0 or x.size == 0:
        return x.size * x.dtype.itemsize if kept == x.size else sizes.bitmap_bytes(x.size, kept, 32)
    blocks = x.size // math.prod(block_shape(name, x.shape, rule.quant))
    number = 2 if rule.quant.range_dtype == "bfloat16" else 4
    ranges = blocks * (number + {"nudged": 1, "float": number, "symmetric": 0}[rule.quant.zero])
    bits = rule.quant.bits
    return sizes.weight_bytes(x.size, kept, bits, not sizes.is_sparse(x.size, kept, bits)) + ranges
