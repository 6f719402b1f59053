"""Anybody's safetensors checkpoint as an artifact: by rules, without a model, a tensor at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console

from tlc_jax.artifacts.artifact import check_new, write_artifact
from tlc_jax.artifacts.checkpoint_folder import CheckpointFolder
from tlc_jax.compression.account import Account, account_tensor
from tlc_jax.compression.prune import apply_masks, masks_by_rule, nearly_gone
from tlc_jax.compression.quantize import dequantize, quantize_tensor
from tlc_jax.compression.select import foreign_rules, select
from tlc_jax.core.errors import UserError
from tlc_jax.core.place import Place
from tlc_jax.core.quantspec import Rule
from tlc_jax.core.sealed import fingerprint
from tlc_jax.recipes.compress import MADE_BY, check_finite, sizes_told, tell
from tlc_jax.recipes.config import CompressConfig
from tlc_jax.recipes.mix import Source, best_mix
from tlc_jax.recipes.sensitivity import squared_error


def compress_folder(folder: Path, config: CompressConfig, out: Place, console: Console) -> dict[str, Any]:
    """Writes the artifact of a checkpoint's folder to the new folder `out`; returns its manifest.
    Configuration and tokenizer are copied. Of the weights only one tensor is in memory at a time, and what
    was written."""
    check_new(out)
    if config.recovery is not None:
        raise UserError("the recipe prunes in rounds with finetuning: that takes a run (--checkpoint)")
    if config.heads is not None or config.feed_forward_size is not None:
        raise UserError(
            "heads and feed-forward units can be told apart only in a run (--checkpoint): drop both"
        )
    source = CheckpointFolder(folder)
    if not any(source.is_float(name) and np.prod(source.shape(name)) for name in source):
        raise UserError(f"--hf {folder} holds no weights: no tensor of it is of floats")
    shapes = {
        name: jax.ShapeDtypeStruct(source.shape(name), np.float32 if source.is_float(name) else np.int32)
        for name in source
    }
    target: dict[str, Any] = {}
    if config.target_mb is not None:
        own = select(shapes, foreign_rules(shapes, config.spec, config.matrices_only))
        damage = squared_error(source, [name for name in source if source.is_float(name)])
        config, target = best_mix(Source(source, own, {}, damage), config, None, console)
    rules = select(shapes, config.rules or foreign_rules(shapes, config.spec, config.matrices_only))
    cap = config.max_tensor_sparsity
    masks = masks_by_rule(source, rules, config.sparsity, {}, scope=config.scope, cap=cap)
    for name in nearly_gone(masks):
        console.print(f"warning: {name} has lost {(~masks[name]).mean():.1%} of its weights")
    sizes: list[Account] = []

    def about() -> dict[str, Any]:
        return {
            "made_by": MADE_BY,
            "source": {"kind": "folder", "files": _fingerprints(folder)},
            "compression": json.loads(json.dumps(asdict(config))),
            "size": sizes_told(sum(sizes, Account())),
            **({"target": target} if target else {}),
        }

    others = {name: path.read_bytes() for name, path in source.others.items()}
    items = _compressed(source, rules, masks, sizes)
    return write_artifact(out, items, about, others, zstd=config.zstd)


def _compressed(
    source: CheckpointFolder, rules: dict[str, Rule], masks: dict[str, Any], sizes: list[Account]
) -> Iterator[tuple[str, Any, Any, dict[str, Any]]]:
    for name, x in source.items():
        mask, rule = masks.get(name), rules[name]
        if source.is_float(name):
            check_finite(name, x)
            pruned = apply_masks({name: x}, masks)[name]
            found = quantize_tensor(name, pruned, rule.quant, mask)
        else:
            found = x
        sizes.append(account_tensor(found, mask))
        yield name, found, mask, tell(x, dequantize({name: found})[name], rule)


def _fingerprints(folder: Path) -> dict[str, Any]:
    return {path.name: fingerprint(path) for path in sorted(folder.glob("*.safetensors"))}
