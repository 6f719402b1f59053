"""Quantized tensors with random codes, and what they stand for in numpy."""

from __future__ import annotations

import math

import numpy as np

from tlc_jax.compression.quantized import QuantizedTensor
from tlc_jax.config.quantization import QuantSpec
from tlc_jax.core.packed import PackedTensor, stack, summed_axis
from tlc_jax.core.stacked import Tensors, nested, split, stacks
from tlc_jax.core.tree import Params, flatten


def random_codes(
    name: str, shape: tuple[int, ...], spec: QuantSpec, sparsity: float = 0.0, far: bool = False
) -> QuantizedTensor:
    """Random codes and ranges. The code of zero is one of the codes unless it is `far`."""
    random, axis = np.random.default_rng(math.prod(shape) + spec.bits), summed_axis(name)
    blocks = [1, 1]
    if spec.granularity != "tensor":
        blocks[-3 - axis] = shape[-3 - axis]
    if spec.group_size:
        blocks[axis] = shape[axis] // spec.group_size
    delta = random.uniform(0.01, 0.02, blocks).astype(np.float32)
    if spec.zero == "float":
        offset = random.normal(0, 0.1, blocks).astype(np.float32)
    elif spec.zero == "symmetric":
        offset = np.full(blocks, 2 ** (spec.bits - 1), np.int32)
    else:
        offset = random.integers(-300 if far else 0, 300 if far else 2**spec.bits, blocks).astype(np.int32)
    if spec.range_dtype == "bfloat16":
        delta, offset = (_cut(x) if x.dtype == np.float32 else x for x in (delta, offset))
    codes = random.integers(0, 2**spec.bits, shape).astype(np.uint8)
    return QuantizedTensor(codes, delta, offset, random.random(shape) >= sparsity if sparsity else None, spec)


def in_numpy(tensor: QuantizedTensor) -> np.ndarray:
    """The values, by the formulas of the format."""
    delta, offset = tensor.delta, tensor.offset
    for axis, size in enumerate(tensor.shape):
        delta, offset = (np.repeat(x, size // x.shape[axis], axis) for x in (delta, offset))
    if tensor.spec.zero == "float":
        values = offset + delta * tensor.codes.astype(np.float32)
    else:
        values = delta * (tensor.codes.astype(np.int32) - offset).astype(np.float32)
    return values if tensor.mask is None else np.where(tensor.mask, values, np.float32(0))


def with_codes(params: Params, spec: QuantSpec, sparsity: float = 0.0) -> tuple[Params, Params]:
    """Parameters with random codes in place of matrices: in floats, and packed."""
    leaves = {
        name: random_codes(name, x.shape, spec, sparsity) for name, x in split(params).items() if x.ndim == 2
    }
    floats, kept = dict[str, np.ndarray](), dict[str, PackedTensor]()
    for path, names in stacks(leaves).items():
        floats[path], kept[path] = stacked(path, names, leaves, spec.bits)
    vectors = {path: x for path, x in flatten(params).items() if path not in kept}
    return nested({**vectors, **floats}), nested({**vectors, **kept})


def stacked(path: str, names: list[str], leaves: Tensors, bits: int) -> tuple[np.ndarray, PackedTensor]:
    """A parameter in both forms, from the leaves of its tensors."""
    layers = [leaves[name].packed(bits, summed_axis(path)) for name in names]
    values = [in_numpy(leaves[name]) for name in names]
    if names == [path]:
        return values[0], layers[0]
    packed = stack(layers)
    assert packed is not None
    return np.stack(values), packed


def _cut(x: np.ndarray) -> np.ndarray:
    """Floats of which 16 bits are left."""
    return (x.view(np.uint32) & 0xFFFF0000).view(np.float32)
