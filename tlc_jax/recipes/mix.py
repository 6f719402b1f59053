"""The best mix of bits and sparsity, tensor by tensor, for a file of so many bytes; beside it what one number
of bits and one sparsity for all make of the same bytes."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from rich.console import Console

from tlc_jax.artifacts.artifact import file_bytes
from tlc_jax.compression.allocate import Option, allocate
from tlc_jax.compression.prune import masks_by_rule
from tlc_jax.compression.quantize import block_shape, dequantize, quantize_tensor
from tlc_jax.config.compression import CompressConfig
from tlc_jax.config.quantization import Rule
from tlc_jax.core import sizes, stopping
from tlc_jax.core.errors import UserError
from tlc_jax.core.stacked import Tensors
from tlc_jax.recipes.sensitivity import BITS, RANGE, SPARSITIES, Damage, Sensitivity, sensitivity_of

VECTOR_BITS = 8  # vectors are few: nothing is gained by fewer
_TRIES = 8  # until the header of the file is guessed well enough
_SLACK = 64  # bytes more with each try: the header changes with what is bitmap and what is dense
_HALVINGS = 12  # of the interval of sparsities

Worth = Callable[[Tensors], dict[str, float]]
Rules = dict[str, Rule]
Make = Callable[[int], Rules]


@dataclasses.dataclass(frozen=True)
class Source:
    """The tensors to compress, their rules but for bits and sparsity, what is pruned already, and what a
    change costs."""

    tensors: Mapping[str, Any]
    rules: Mapping[str, Rule]
    masks: Tensors
    damage: Damage


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A way to compress everything into the budget; `damage` is that of all tensors together."""

    name: str
    rules: Rules
    file_bytes: int
    damage: float
    worth: dict[str, float]


def best_mix(
    source: Source, config: CompressConfig, worth: Worth | None, console: Console
) -> tuple[CompressConfig, dict[str, Any]]:
    """The config with the rules of the best candidate, and what the manifest tells of all. `worth` measures a
    model on what may be chosen on, and the smallest loss wins; None: the least damage does."""
    assert config.target_mb is not None
    budget, smallest = round(config.target_mb * 1e6), _smallest(source)
    if (least := file_bytes(_compressed(source, smallest))) > budget:
        raise UserError(
            f"--target-mb {config.target_mb:g} cannot be reached: the file has {least:,} bytes with "
            f"{BITS[-1]} bits and {SPARSITIES[-1]:.0%} pruned; give --target-mb {least / 1e6:.6f} or more"
        )
    found: list[Candidate] = []
    for name, make in _makers(source, console):
        rules = _fitting(source, make, budget)
        if rules is None and name == "mix":
            rules = smallest
        if rules is not None:
            found.append(_candidate(name, source, rules, worth))
            console.print(_words(found[-1]))
    best = min(found, key=lambda own: (_loss(own), own.damage))
    console.print(f"best: {best.name}")
    told = {"megabytes": config.target_mb, "chosen": best.name, "candidates": [_told(own) for own in found]}
    return dataclasses.replace(config, target_mb=None, rules=tuple(best.rules.values())), told


def sensitivities(source: Source, console: Console) -> dict[str, Sensitivity]:
    """Of each matrix that is quantized."""
    matrices = [name for name, x in source.tensors.items() if _is_chosen_for(x, source.rules[name])]
    found = {}
    for number, name in enumerate(matrices, 1):
        rule, mask = source.rules[name], source.masks.get(name)
        assert rule.quant is not None  # that is why it was chosen
        found[name] = sensitivity_of(name, source.tensors[name], rule, rule.quant, mask, source.damage)
        if number % 10 == 0 or number == len(matrices):
            console.print(f"sensitivity: {number} of {len(matrices)} matrices")
    return found


def _is_chosen_for(x: Any, rule: Rule) -> bool:
    return rule.quant is not None and x.ndim >= 2 and x.size > 0


def _makers(source: Source, console: Console) -> Iterator[tuple[str, Make]]:
    known = sensitivities(source, console)
    options = {name: list(_options(name, x, source, known)) for name, x in source.tensors.items()}
    yield "mix", lambda limit: {name: option.what for name, option in allocate(options, limit).items()}
    for bits in BITS:
        yield f"{bits} bits", lambda limit, b=bits: _uniform(source, b, limit)


def _options(name: str, x: Any, source: Source, known: Mapping[str, Sensitivity]) -> Iterator[Option]:
    """Every way to compress a tensor, as its rule."""
    rule, mask = source.rules[name], source.masks.get(name)
    before = _kept(x, mask)
    if name not in known:
        own = _rule(name, rule, VECTOR_BITS)
        yield Option(_expected(name, x, own, before), 0.0, own)
        return
    for bits in BITS:
        for sparsity, damage in known[name].finer(bits).items():
            own = _rule(name, rule, bits, sparsity or None)
            kept = min(before, x.size - round(sparsity * x.size))
            yield Option(_expected(name, x, own, kept), damage, own)


def _kept(x: Any, mask: Any) -> int:
    return x.size if mask is None else int(np.sum(mask))


def _rule(name: str, rule: Rule, bits: int, sparsity: float | None = None) -> Rule:
    spec = rule.quant and dataclasses.replace(rule.quant, bits=bits, range=RANGE)
    return dataclasses.replace(rule, pattern=re.escape(name), quant=spec, sparsity=sparsity)


def _expected(name: str, x: Any, rule: Rule, kept: int) -> int:
    """Bytes of a tensor of which so many weights are kept, before it is quantized."""
    if rule.quant is None or x.ndim == 0 or x.size == 0:
        return x.nbytes if kept == x.size else sizes.bitmap_bytes(x.size, kept, 32)
    blocks = x.size // math.prod(block_shape(name, x.shape, rule.quant))
    ranges = blocks * (5 if rule.quant.zero == "nudged" else 8)  # delta, and a code of zero or a float
    bits = rule.quant.bits
    return sizes.weight_bytes(x.size, kept, bits, not sizes.is_sparse(x.size, kept, bits)) + ranges


def _uniform(source: Source, bits: int, limit: int) -> Rules:
    """One number of bits for all matrices, and the least sparsity that fits, the smallest weights of all
    first. Vectors have as many bits as in the mix."""
    chosen = {name: _is_chosen_for(x, source.rules[name]) for name, x in source.tensors.items()}
    rules = {
        name: _rule(name, rule, bits if chosen[name] else VECTOR_BITS) for name, rule in source.rules.items()
    }

    def masks(sparsity: float) -> Tensors:
        return masks_by_rule(source.tensors, rules, sparsity, source.masks)

    def size(sparsity: float) -> int:
        found = masks(sparsity)
        return sum(
            _expected(name, x, rules[name], _kept(x, found.get(name))) for name, x in source.tensors.items()
        )

    low, high = 0.0, 0.99
    if size(high) > limit:
        raise UserError(f"{bits} bits do not fit")
    if size(low) <= limit:
        high = low
    for _ in range(_HALVINGS if high else 0):
        middle = (low + high) / 2
        low, high = (low, middle) if size(middle) <= limit else (middle, high)
    found = masks(high)
    return {
        name: dataclasses.replace(rule, sparsity=_share(found[name]))
        if rule.prune and name in found
        else rule
        for name, rule in rules.items()
    }


def _share(mask: Any) -> float:
    """Of zeros. One weight stays: a rule cannot take all."""
    return min(float(np.mean(~mask)), 1 - 1 / mask.size) if mask.size else 0.0


def _smallest(source: Source) -> Rules:
    """The fewest bits of the fewest weights."""
    found = {}
    for name, x in source.tensors.items():
        rule, chosen = source.rules[name], _is_chosen_for(x, source.rules[name])
        sparsity = SPARSITIES[-1] if chosen and rule.prune else None
        found[name] = _rule(name, rule, BITS[-1] if chosen else VECTOR_BITS, sparsity)
    return found


def _fitting(source: Source, make: Make, budget: int) -> Rules | None:
    """Rules whose file, header and all, is within the budget; None if there are none."""
    limit = budget
    for tried in range(_TRIES):
        try:
            rules = make(limit)
        except UserError:
            return None
        over = file_bytes(_compressed(source, rules)) - budget
        if over <= 0:
            return rules
        limit -= over + _SLACK * tried
    return None


def _compressed(source: Source, rules: Rules) -> Iterator[tuple[str, Any, Any]]:
    """Name, QTensor or floats, and mask, one tensor at a time."""
    masks = masks_by_rule(source.tensors, rules, 0.0, source.masks)
    for name, x in source.tensors.items():
        stopping.check()
        mask, spec = masks.get(name), rules[name].quant
        as_it_is = spec is None and mask is None  # also where it holds no floats
        yield name, x if as_it_is else quantize_tensor(name, x, spec, mask), mask


def _candidate(name: str, source: Source, rules: Rules, worth: Worth | None) -> Candidate:
    found = list(_compressed(source, rules))
    values = {own: np.asarray(x) for own, x in dequantize({own: x for own, x, _ in found}).items()}
    if name != "mix":
        zeros = sum(int(np.sum(~np.asarray(mask))) for _, _, mask in found if mask is not None)
        prunable = sum(x.size for own, x in source.tensors.items() if source.rules[own].prune)
        name = f"{name}, {100 * zeros / max(prunable, 1):.0f} % pruned"
    damage = source.damage(values)
    return Candidate(name, rules, file_bytes(found), damage, worth(values) if worth else {})


def _loss(own: Candidate) -> float:
    return next((x for key, x in own.worth.items() if key.endswith("/loss")), 0.0)


def _words(own: Candidate) -> str:
    worth = "".join(f"  {key.removeprefix('eval/')} {x:.4g}" for key, x in own.worth.items())
    return f"  {own.name:22s} {own.file_bytes:12,} bytes  damage {own.damage:9.4g}{worth}"


def _told(own: Candidate) -> dict[str, Any]:
    return {"name": own.name, "file_bytes": own.file_bytes, "damage": own.damage, **own.worth}
