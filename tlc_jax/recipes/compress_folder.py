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
from tlc_jax.compression.prune import masks_by_rule
from tlc_jax.compression.quantize import dequantize, quantize_tensor
from tlc_jax.compression.select import foreign_rules, select
from tlc_jax.config.compression import CompressConfig
from tlc_jax.config.quantization import Rule
from tlc_jax.core import stopping
from tlc_jax.core.errors import UserError
from tlc_jax.recipes.compress_run import MADE_BY, report_nearly_gone, sizes_told
from tlc_jax.recipes.fidelity import Fidelity, check_weights, report_undivided
from tlc_jax.recipes.mix import Source, best_mix
from tlc_jax.recipes.sensitivity import squared_error
from tlc_jax.storage.paths import AnyPath
from tlc_jax.storage.sealed import fingerprint


def compress_folder(folder: Path, config: CompressConfig, out: AnyPath, console: Console) -> dict[str, Any]:
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
    for name in source.left_out:
        console.print(f"{name} is left out: it is none of the model's weights")
    floats = [name for name in source if source.is_float(name)]
    if not any(np.prod(source.shape(name)) for name in floats):
        raise UserError(f"--hf {folder} holds no weights: no tensor of it is of floats")
    shapes = {
        name: jax.ShapeDtypeStruct(source.shape(name), np.float32 if source.is_float(name) else np.int32)
        for name in source
    }
    target: dict[str, Any] = {}
    if config.target_mb is not None:
        own = select(shapes, foreign_rules(shapes, config.spec, config.matrices_only))
        for name in floats:
            check_weights(name, source[name], own[name], console)
        damage = squared_error(source, floats)
        config, target = best_mix(Source(source, own, {}, damage), config, None, console)
    rules = select(shapes, config.rules or foreign_rules(shapes, config.spec, config.matrices_only))
    report_undivided(rules, console)
    cap = config.max_tensor_sparsity
    masks = masks_by_rule(source, rules, config.sparsity, {}, scope=config.scope, cap=cap)
    report_nearly_gone(masks, console)
    sizes: list[Account] = []
    fidelity = Fidelity()

    def about() -> dict[str, Any]:
        return {
            "made_by": MADE_BY,
            "source": {"kind": "folder", "files": {n: fingerprint(folder / n) for n in source.files}},
            "compression": json.loads(json.dumps(asdict(config))),
            "size": sizes_told(sum(sizes, Account())),
            "relative_error": fidelity.whole,
            **({"target": target} if target else {}),
        }

    others = {name: path.read_bytes() for name, path in source.others.items()}
    items = _compressed(source, rules, masks, sizes, fidelity, console)
    return write_artifact(out, items, about, others, zstd=config.zstd)


def _compressed(
    source: CheckpointFolder,
    rules: dict[str, Rule],
    masks: dict[str, Any],
    sizes: list[Account],
    fidelity: Fidelity,
    console: Console,
) -> Iterator[tuple[str, Any, Any, dict[str, Any]]]:
    for name, x in source.items():
        stopping.check()
        mask, rule, found = masks.get(name), rules[name], x
        if source.is_float(name):
            check_weights(name, x, rule, console)
            if lost := source.vanished.get(name):
                console.print(
                    f"warning: {lost:,} weights of {name} are too small for float32: they become zero"
                )
            found = quantize_tensor(name, x, rule.quant, mask)
        sizes.append(account_tensor(found, mask))
        yield name, found, mask, fidelity.add(name, x, dequantize({name: found})[name], rule)
