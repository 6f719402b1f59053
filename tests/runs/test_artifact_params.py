"""Artifacts that are loaded packed: the same weights, one parameter at a time, whatever their kinds."""

from __future__ import annotations

import dataclasses
import tracemalloc
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from tests.quantized import random_codes
from tlc_jax.artifacts.artifact import Artifact, open_artifact, write_artifact
from tlc_jax.artifacts.model_card import ModelCard
from tlc_jax.compression.methods.low_rank import LowRankTensor
from tlc_jax.compression.plain import FloatTensor
from tlc_jax.config import MeshConfig
from tlc_jax.config.quantization import QuantSpec
from tlc_jax.core.errors import UserError
from tlc_jax.core.leaf import Leaf
from tlc_jax.core.packed import PackedTensor
from tlc_jax.core.stacked import join, nested, stacks
from tlc_jax.core.tree import Params, flatten
from tlc_jax.parallel.mesh import make_mesh
from tlc_jax.runs.artifact_params import check_shapes, packed_params

RULES = ((".*", jax.sharding.PartitionSpec()),)


def written(folder: Path, leaves: dict[str, Leaf], coding: str = "plain") -> Artifact:
    about = {"source": {"kind": "run", "step": 1}, "label_names": []}
    size = sum((leaf.sizes() for leaf in leaves.values()), start=next(iter(leaves.values())).sizes())
    write_artifact(
        folder,
        [(name, leaf, {"relative_error": 0.0}) for name, leaf in leaves.items()],
        lambda: {**about, "size": dataclasses.asdict(size)},
        {},
        coding=coding,
        card=lambda manifest: ModelCard("a", "a", None, "a test", {}, "", manifest=manifest),
    )
    return open_artifact(folder)


def expected_shapes(leaves: dict[str, Leaf]) -> Params:
    """Of the parameters that the leaves are tensors of."""
    return nested(
        {
            path: jax.ShapeDtypeStruct(
                (*(() if names == [path] else (len(names),)), *leaves[names[0]].shape), np.float32
            )
            for path, names in stacks(leaves).items()
        }
    )


def loaded(artifact: Artifact, leaves: dict[str, Leaf]) -> dict[str, Any]:
    return flatten(packed_params(artifact, expected_shapes(leaves), make_mesh(MeshConfig()), RULES))


@pytest.mark.parametrize("coding", ["plain", "brotli"])
def test_every_kind_of_leaf(coding: str, tmp_path: Path) -> None:
    """Codes stay codes, those of pruned layers and of layers with other bits, too; floats, factors and
    vectors are floats, and so are layers that are computed in different ways."""
    kernel, factor = QuantSpec(4, "group:4"), QuantSpec(4, "row")
    draw = random_codes
    leaves: dict[str, Leaf] = {
        "token_embedding": draw("token_embedding", (40, 8), QuantSpec(3, "row"), 0.5),
        "encoder/layers/0/a/kernel": draw("a/kernel", (8, 16), kernel),
        "encoder/layers/1/a/kernel": draw("a/kernel", (8, 16), QuantSpec(2), 0.5, far=True),
        "encoder/layers/0/b/kernel": draw("b/kernel", (8, 16), kernel),
        "encoder/layers/1/b/kernel": draw("b/kernel", (8, 16), QuantSpec(4, zero="float")),
        "c/kernel": FloatTensor(np.eye(8, dtype=np.float32)),
        "d/kernel": LowRankTensor(draw("left/kernel", (8, 2), factor), draw("right", (2, 6), factor)),
        "d/bias": draw("d/bias", (1, 6), QuantSpec(8)),
        "norm/scale": FloatTensor(np.arange(8, dtype=np.float32)),
    }
    params = loaded(written(tmp_path / "artifact", leaves, coding), leaves)
    kept = {path for path, x in params.items() if isinstance(x, PackedTensor)}
    assert kept == {"token_embedding", "encoder/layers/a/kernel", "d/bias"}
    found = jax.jit(lambda xs: [x.expand() for x in xs])([params[path] for path in sorted(kept)])
    values = {**params, **dict(zip(sorted(kept), found, strict=True))}
    for path, x in flatten(join({name: np.asarray(leaf.dense()) for name, leaf in leaves.items()})).items():
        np.testing.assert_array_equal(values[path], x, err_msg=path)


def test_no_more_than_one_parameter_is_in_another_form(tmp_path: Path) -> None:
    """What numpy holds while 24 matrices are loaded, beside their size as floats."""
    leaves: dict[str, Leaf] = {
        f"encoder/layers/{layer}/{name}/kernel": random_codes("a/kernel", (256, 128), QuantSpec(4, "row"))
        for layer in range(2)
        for name in "abcdefghijkl"
    }
    artifact = written(tmp_path / "artifact", leaves)
    tracemalloc.start()
    try:
        params = loaded(artifact, leaves)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    floats = sum(4 * x.size for x in params.values())
    assert floats == 4 * 24 * 256 * 128
    assert peak < floats / 4


def test_other_shapes_than_the_model_has_are_named(tmp_path: Path) -> None:
    leaves: dict[str, Leaf] = {
        f"encoder/layers/{i}/a/kernel": random_codes("a/kernel", (4, 8), QuantSpec(4)) for i in (0, 1)
    }
    artifact = written(tmp_path / "artifact", leaves)
    check_shapes(artifact, expected_shapes(leaves))
    other = nested({"encoder/layers/a/kernel": jax.ShapeDtypeStruct((2, 4, 9), np.float32)})
    with pytest.raises(UserError, match=r"a/kernel is \(2, 4, 8\) in the artifact and \(2, 4, 9\) in the"):
        check_shapes(artifact, other)
