"""From a run to an artifact: select, prune, quantize, account, write (paper 4)."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import Any

import jax
from rich.console import Console

import tlc_jax
from tlc_jax.artifacts.artifact import WEIGHTS, check_new, is_artifact, write_artifact
from tlc_jax.compression.account import Account, account
from tlc_jax.compression.prune import masks_by_rule, nearly_gone
from tlc_jax.compression.quantize import dequantize, quantize
from tlc_jax.compression.select import specs
from tlc_jax.compression.structured import keep_largest_units, shrink
from tlc_jax.config import ModelConfig
from tlc_jax.config.compression import CompressConfig
from tlc_jax.config.quantization import Rule
from tlc_jax.core.errors import UserError
from tlc_jax.core.stacked import Tensors, split
from tlc_jax.recipes.fidelity import Fidelity, check_weights, report_errors, report_metrics, report_undivided
from tlc_jax.recipes.mix import Source, best_mix
from tlc_jax.recipes.recover import Round, prune_in_rounds, recovery_told
from tlc_jax.recipes.rules import rules_of
from tlc_jax.recipes.sensitivity import Divergence
from tlc_jax.recipes.worth import Worth, worth_of
from tlc_jax.runs.restore import TrainedModel, trained_model
from tlc_jax.storage.paths import AnyPath
from tlc_jax.storage.sealed import Damaged, read_manifest

_TRIES = 5
MADE_BY = f"tlc_jax {tlc_jax.__version__}"


@dataclass(frozen=True)
class Compressed:
    """QTensors and floats, the masks of what is pruned, and the rule that was each tensor's."""

    tensors: Tensors
    masks: dict[str, Any]
    rules: dict[str, Rule]

    @property
    def size(self) -> Account:
        return account(self.tensors, self.masks)


def compress_tensors(
    tensors: Tensors, config: CompressConfig, pruned: Tensors, console: Console
) -> Compressed:
    """Prunes, then quantizes what is left. `pruned` are masks of what is pruned already, and stays so."""
    rules = rules_of(tensors, config)
    for name, x in tensors.items():
        check_weights(name, x, rules[name], console)
    report_undivided(rules, console)
    cap = config.max_tensor_sparsity
    masks = masks_by_rule(tensors, rules, config.sparsity, pruned, scope=config.scope, cap=cap)
    report_nearly_gone(masks, console)
    return Compressed(quantize(tensors, specs(rules), masks), masks, rules)


def report_nearly_gone(masks: dict[str, Any], console: Console) -> None:
    for name in nearly_gone(masks):
        console.print(
            f"warning: {name} has lost {100 * (~masks[name]).mean():.1f} % of its weights: the model may not "
            "survive that; see --max-tensor-sparsity"
        )


def compress_run(
    root: str, config: CompressConfig, out: AnyPath, workdir: AnyPath | None, console: Console
) -> dict[str, Any]:
    """Writes the artifact of a run to the new folder `out`; returns its manifest. A recipe with recovery does
    its rounds in `workdir`. What the run is worth on the sets that it was tuned on is told before and
    after."""
    check_new(out)
    rounds: list[Round] = []
    if config.recovery is not None:
        if workdir is None:
            raise UserError("the recipe prunes in rounds: give --workdir, a folder where their runs live")
        root, rounds = prune_in_rounds(root, config, workdir, console)
    elif workdir is not None:
        raise UserError("--workdir is where rounds of pruning live, and this recipe has none: drop it")
    original, source = _loaded(root, console)
    model = smaller(original, config)
    tensors, worth, target = split(jax.device_get(model.params)), None, {}  # one device is enough
    if config.target_mb is not None:
        worth = Worth(model, tensors)
        config, target = _mix(model, tensors, worth, config, console)
    compressed = compress_tensors(tensors, config, model.masks, console)
    values, fidelity = dequantize(compressed.tensors), Fidelity()
    entries = {
        name: fidelity.add(name, x, values[name], compressed.rules[name]) for name, x in tensors.items()
    }
    if fidelity.whole or model is not original:
        _report_worth(original, model, worth, tensors, values, console)
    about = {
        "made_by": MADE_BY,
        "source": source,
        "compression": json.loads(json.dumps(asdict(config))),
        **({"recovery": recovery_told(rounds)} if rounds else {}),
        **({"target": target} if target else {}),
        "label_names": list(model.label_names),
        "size": sizes_told(compressed.size),
        "relative_error": fidelity.whole,
    }
    others = {
        "config.json": f"{json.dumps(asdict(model.config), indent=1)}\n".encode(),
        "tokenizer.json": model.rundir.tokenizer.read_bytes(),
    }
    items = (
        (name, compressed.tensors[name], compressed.masks.get(name), entries[name])
        for name in sorted(tensors)
    )
    return write_artifact(out, items, lambda: about, others, zstd=config.zstd)


def _report_worth(
    original: TrainedModel,
    model: TrainedModel,
    worth: Worth | None,
    tensors: Tensors,
    values: Tensors,
    console: Console,
) -> None:
    """What `original` is worth, and what `model`, which may have fewer heads and units, with these values."""
    before = worth or worth_of(original, split(jax.device_get(original.params)), console)
    if before is not None:
        after = before if model is original else Worth(model, tensors)
        report_metrics(before.dense, after(values), console)


def _mix(
    model: TrainedModel, tensors: Tensors, worth: Worth, config: CompressConfig, console: Console
) -> tuple[CompressConfig, dict[str, Any]]:
    """Judged on the sets that the run was tuned on."""
    dense = ", ".join(f"{key.removeprefix('eval/')} {x:.4g}" for key, x in worth.dense.items())
    console.print(f"as it is: {dense}")
    damage = Divergence(worth.task, tensors, model.config)
    return best_mix(Source(tensors, rules_of(tensors, config), model.masks, damage), config, worth, console)


def smaller(model: TrainedModel, config: CompressConfig) -> TrainedModel:
    """The model without the heads and units that the recipe takes away."""
    if config.heads is None and config.feed_forward_size is None:
        return model
    if model.masks:
        raise UserError("of a model whose weights are pruned no heads can be taken: take heads first")
    own = model.config.model
    if not isinstance(own, ModelConfig):
        raise UserError("heads and feed-forward units can be taken from an encoder only")
    heads, rows = config.heads or own.heads, config.feed_forward_size or own.feed_forward
    units = keep_largest_units(model.params, own, heads, rows)
    params, less = shrink(model.params, own, units)
    return replace(model, params=params, config=replace(model.config, model=less))


def sizes_told(size: Account) -> dict[str, Any]:
    return {
        "weights": size.weights,
        "nonzeros": size.nonzeros,
        "float32_bytes": size.float32,
        "paper_bytes": size.paper,
        "format_bytes": size.theoretical,
    }


def report(manifest: dict[str, Any], out: AnyPath, console: Console) -> None:
    """How far the weights are from the trained ones; the three sizes beside float32."""
    report_errors(manifest, console)
    size = manifest["size"]
    file = manifest["files"][WEIGHTS]["bytes"]
    dense = size["float32_bytes"]
    zeros = 1 - size["nonzeros"] / size["weights"]
    console.print(
        f"{size['weights']:,} weights, {100 * zeros:.1f} % of them zero; {dense:,} bytes as float32"
    )
    for name, own in (("paper", size["paper_bytes"]), ("format", size["format_bytes"]), ("file", file)):
        console.print(f"  {name:6s} {own:12,.0f} bytes  {dense / own:5.2f} times smaller")
    console.print(f"written to {out}")


def _loaded(root: str, console: Console) -> tuple[TrainedModel, dict[str, Any]]:
    """The model, and which it is. A run that goes on may retire the step that was just read: then the newest
    is read again."""
    for _ in range(_TRIES):
        model = trained_model(root, console.print)
        try:
            return model, _source(model)
        except Damaged:
            continue
    raise UserError(f"{root} changes faster than it can be read: stop its run, or name one of its marks")


def _source(model: TrainedModel) -> dict[str, Any]:
    """Which checkpoint it was, by what it holds and not by where it lay."""
    if is_artifact(model.rundir.root):
        return {**read_manifest(model.rundir.root)["source"], "compressed_before": True}
    manifests = {step: read_manifest(model.rundir.checkpoints / str(step)) for step in model.steps}
    parameters = {
        str(step): {name: own for name, own in manifest["files"].items() if name.startswith("params/")}
        for step, manifest in manifests.items()
    }
    if len(parameters) == 1:
        return {"kind": "run", "step": model.step, "parameters": parameters[str(model.step)]}
    return {"kind": "run", "step": model.step, "mean_of": parameters}
