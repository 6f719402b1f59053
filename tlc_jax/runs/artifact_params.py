"""The parameters of an artifact: as floats, or as codes that stay packed while the model is used."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from tlc_jax.artifacts.artifact import Artifact
from tlc_jax.core.errors import UserError
from tlc_jax.core.free_memory import return_free_memory
from tlc_jax.core.leaf import to_dense
from tlc_jax.core.packed import PackedTensor, stack, summed_axis
from tlc_jax.core.stacked import Tensors, join, nested, stacks
from tlc_jax.core.tree import Params, flatten
from tlc_jax.parallel.mesh import replicated
from tlc_jax.parallel.sharding import Rules, param_shardings


def check_shapes(artifact: Artifact, expected: Params) -> None:
    """UserError where the tensors of an artifact are not those of the model that its config describes."""
    entries, stored = artifact.manifest["tensors"], dict[str, tuple[int, ...]]()
    for path, names in stacks(entries).items():
        shapes = {tuple(entries[name]["shape"]) for name in names}
        if len(shapes) > 1:
            raise UserError(f"{path} has another shape in some layers: {sorted(shapes)}")
        stored[path] = (*(() if names == [path] else (len(names),)), *shapes.pop())
    wanted = {path: tuple(x.shape) for path, x in flatten(expected).items()}
    for name in sorted(stored.keys() | wanted.keys()):
        if stored.get(name) != wanted.get(name):
            raise UserError(
                f"{artifact.folder} does not match its config.json: {name} is "
                f"{stored.get(name) or 'missing'} in the artifact and {wanted.get(name) or 'unknown'} in the "
                "model; restore a whole copy of the artifact"
            )


def float_params(artifact: Artifact, mesh: Mesh, rules: Rules) -> tuple[Params, Tensors]:
    """All parameters in float32, sharded by rules, and the masks of pruned tensors."""
    tensors = to_dense(artifact.tensors)
    masks = {  # an artifact stores no masks: a zero is a pruned weight
        name: np.asarray(tensors[name]) != 0
        for name, entry in artifact.manifest["tensors"].items()
        if entry["nonzeros"] < entry["weights"]
    }
    params = join(tensors)
    return jax.device_put(params, param_shardings(mesh, params, rules)), masks


def packed_params(artifact: Artifact, expected: Params, mesh: Mesh, rules: Rules) -> Params:
    """The same, but matrices of codes are PackedTensors, whole on every device. One parameter after the other
    is read and placed, so that at no time more than one is there in another form.

    Floats are vectors, low-rank factors, which are multiplied, and stacks of layers that are computed in
    different ways. Layers of different bits have as many as the most of them."""
    shardings, params = flatten(param_shardings(mesh, expected, rules)), dict[str, Any]()
    for path, names in stacks(artifact.tensors).items():
        packed = _packed(artifact, path, names)
        if packed is not None:
            params[path] = jax.device_put(packed, replicated(mesh))
            continue
        dense = [np.asarray(artifact.tensors[name].dense()) for name in names]
        params[path] = jax.device_put(dense[0] if names == [path] else np.stack(dense), shardings[path])
    return_free_memory()
    return nested(params)


def _packed(artifact: Artifact, path: str, names: list[str]) -> PackedTensor | None:
    """A parameter as one packed tensor, on the host; None where it has none."""
    entries = [artifact.manifest["tensors"][name] for name in names]
    bits = max(entry["bits"] for entry in entries)
    if bits > 8 or any(len(entry["shape"]) != 2 for entry in entries):
        return None
    layers: list[PackedTensor] = []
    for name in names:
        layer = artifact.tensors[name].packed(bits, summed_axis(path))
        if layer is None:
            return None
        layers.append(layer)
    return layers[0] if names == [path] else stack(layers)
