"""The rules that the candidates of a byte budget have, and what they make of a model."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from rich.console import Console

from tlc_jax.artifacts.artifact import file_bytes
from tlc_jax.compression.allocate import Option, allocate
from tlc_jax.compression.input_statistics import Statistics
from tlc_jax.compression.methods import FitBytes, Quantize
from tlc_jax.compression.methods.by_rule import prune_each
from tlc_jax.compression.pipeline import Plan, choose_rules, make_plan
from tlc_jax.compression.prune import magnitude_masks
from tlc_jax.compression.quantize import row_length
from tlc_jax.compression.steps import Recipe
from tlc_jax.config.quantization import Rule
from tlc_jax.core.errors import UserError
from tlc_jax.core.leaf import Leaf, Masks
from tlc_jax.core.progress import stage
from tlc_jax.recipes.budget_rules import (
    VECTOR_BITS,
    Rules,
    expected_bytes,
    granularities_of,
    group_size,
    kept_weights,
    share_pruned,
    with_bits,
)
from tlc_jax.recipes.sensitivity import (
    BITS,
    GRANULARITIES,
    SPARSITIES,
    Damage,
    Sensitivity,
    sensitivity_of,
)

_TRIES = 8  # until the size of the file's header is known well enough
_SLACK = 64  # additional bytes with each try: the header depends on which tensors have a bitmap
_HALVINGS = 12  # of the interval of sparsities

MIX = "mix"
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
    inputs: Statistics | None = None
    """Of the tensors' inputs in calibration data, if there are any."""


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


class Search:
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
        yield MIX, self.mix(console)
        for bits in BITS if self.mixed else ():
            yield f"{bits} bits", lambda limit, bits=bits: self.uniform(bits, limit)
        for granularity in GRANULARITIES if self.mixed else ():
            yield granularity, lambda limit, granularity=granularity: self._of_granularity(granularity, limit)

    def mix(self, console: Console) -> Make:
        """The function that makes the rules of mixes, after the damage of each tensor has been measured."""
        source = dataclasses.replace(self._source, masks=self._plan.masks)
        known = sensitivities(source, {name: self._rules[name] for name in self.mixed}, console)
        options = {name: list(self._options(name, x, known)) for name, x in self._source.shapes.items()}
        return lambda limit: {name: option.what for name, option in allocate(options, limit).items()}

    def plan(self, rules: Rules, steps: Recipe = ()) -> Plan:
        """The plan of the recipe with these rules and further `steps`, which have the inputs of tensors."""
        masks = prune_each(self._source.tensors, rules, self._plan.masks)
        inputs = (self._source.inputs or {}) if steps else {}  # measuring takes time
        free = {name: rule if name in self.mixed else _unpruned(rule) for name, rule in rules.items()}
        for step in steps:
            masks = step.prune(self._source.tensors, free, masks, inputs)
        recipe = (*self._plan.recipe, *steps)
        return dataclasses.replace(self._plan, recipe=recipe, rules=rules, masks=masks, inputs=inputs)

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
        return file_bytes(self.compressed(rules))

    def described(self, name: str, rules: Rules, leaves: Mapping[str, Leaf]) -> str:
        """The name of a uniform candidate with its bits, and its share of zeros among what may be pruned."""
        if name in GRANULARITIES:
            bits = {rule.quant.bits for key, rule in rules.items() if key in self.mixed and rule.quant}
            name = f"{max(bits, default=32)} bits, {name}"
        kept = [leaf.sizes() for leaf in leaves.values()]
        zeros = sum(size.weights - size.nonzeros for size in kept)
        prunable = sum(x.size for key, x in self._source.shapes.items() if self._rules[key].prune)
        return f"{name}, {100 * zeros / max(prunable, 1):.0f} % pruned"

    def compressed(self, rules: Rules, steps: Recipe = ()) -> Iterator[tuple[str, Leaf]]:
        """The leaves that the recipe makes with these rules and steps, one at a time."""
        plan, tensors = self.plan(rules, steps), self._source.tensors
        for name in tensors:
            fixed = self._fixed.get(name)
            yield name, plan.convert(name, tensors[name]) if fixed is None else fixed

    def _options(self, name: str, x: Any, known: Mapping[str, Sensitivity]) -> Iterator[Option]:
        """All ways to compress a tensor, each as its rule."""
        rule, before = self._rules[name], kept_weights(x, self._plan.masks.get(name))
        if name not in known:
            rule = self._uniform_rule(name, VECTOR_BITS)
            yield Option(self._bytes(name, x, rule, before), 0.0, rule)
            return
        for bits, granularity in itertools.product(BITS, known[name].shares or ("",)):
            for sparsity, damage in known[name].finer(bits, granularity).items():
                choice = with_bits(name, rule, bits, sparsity or None, granularity)
                kept = min(before, x.size - round(sparsity * x.size))
                yield Option(expected_bytes(name, x, choice, kept), damage, choice)

    def uniform(self, bits: int, limit: int, granularity: str = "") -> Rules:
        """The same number of bits for all matrices, and the lowest sparsity that fits, with the smallest
        weights of all these pruned. Vectors have as many bits as in the mix."""
        rules = self._uniform_rules(bits, granularity)
        names = [name for name, rule in rules.items() if name in self.mixed and rule.prune]

        def masks(sparsity: float) -> Masks:
            before, tensors = self._plan.masks, self._source.tensors
            return {**before, **magnitude_masks(tensors, sparsity, previous=before, names=names)}

        def size(sparsity: float) -> int:
            pruned = masks(sparsity)
            return sum(
                self._bytes(name, x, rules[name], kept_weights(x, pruned.get(name)))
                for name, x in self._source.shapes.items()
            )

        pruned = masks(_least_sparsity(size, limit, f"{bits} bits"))
        shares = {
            name: dataclasses.replace(rules[name], sparsity=share_pruned(pruned[name]) or None)
            for name in names
        }
        return {**rules, **shares}

    def equal_shares(self, bits: int, limit: int, granularity: str = "") -> Rules:
        """As `uniform`, but every matrix loses the same share."""
        rules, shapes, before = (
            self._uniform_rules(bits, granularity),
            self._source.shapes,
            self._plan.masks,
        )
        names = {name for name, rule in rules.items() if name in self.mixed and rule.prune}

        def size(sparsity: float) -> int:
            total = 0
            for name, x in shapes.items():
                kept = kept_weights(x, before.get(name))
                kept = min(kept, x.size - round(sparsity * x.size)) if name in names else kept
                total += self._bytes(name, x, rules[name], kept)
            return total

        share = _least_sparsity(size, limit, f"{bits} bits") or None
        return {
            name: dataclasses.replace(rule, sparsity=share) if name in names else rule
            for name, rule in rules.items()
        }

    def _of_granularity(self, granularity: str, limit: int) -> Rules:
        """The most bits of this granularity that fit without further pruning, the same for all matrices."""
        for bits in BITS:
            rules = self._uniform_rules(bits, granularity)
            kept = {
                name: kept_weights(x, self._plan.masks.get(name)) for name, x in self._source.shapes.items()
            }
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
            return with_bits(name, rule, VECTOR_BITS)
        size, shape = granularity and group_size(granularity), self._source.shapes[name].shape
        undivided = bool(size) and row_length(name, shape) % size != 0
        return with_bits(name, rule, bits, granularity="row" if undivided else granularity)

    def _bytes(self, name: str, x: Any, rule: Rule, kept: int) -> int:
        """Bytes of a tensor of which `kept` weights are not pruned."""
        if (fixed := self._fixed.get(name)) is not None:
            return fixed.sizes().format_bytes
        return expected_bytes(name, x, rule, kept)


def _unpruned(rule: Rule) -> Rule:
    return dataclasses.replace(rule, prune=False, sparsity=None)


def _least_sparsity(size: Callable[[float], int], limit: int, name: str) -> float:
    """The lowest sparsity at which the size is within the limit; UserError where none is."""
    low, high = 0.0, 0.99
    if size(high) > limit:
        raise UserError(f"{name} do not fit")
    if size(low) <= limit:
        return low
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if size(middle) <= limit else (middle, high)
    return high
