"""An embedding has bits, a sparsity or a rank of its own by rules, whatever happens to the other matrices."""

from __future__ import annotations

import numpy as np
import pytest

from tlc_jax.compression.methods import ByRule, LowRank, Quantize
from tlc_jax.compression.methods.low_rank import LowRankTensor
from tlc_jax.compression.pipeline import compress
from tlc_jax.compression.quantized import QuantizedTensor
from tlc_jax.config.quantization import QuantSpec, Rule

KERNEL = "encoder/layers/0/attention/query/kernel"


@pytest.mark.parametrize("embedding", ["encoder/token_embedding", "shared/token_embedding"])
def test_rules_decide_for_the_embedding(embedding: str) -> None:
    rng = np.random.default_rng(0)
    tensors = {name: rng.normal(size=(48, 32)).astype(np.float32) for name in (embedding, KERNEL)}
    rest = Quantize(QuantSpec(8, "row"))

    own_bits = ByRule((Rule("(encoder|shared)/token_embedding", QuantSpec(3, "row", "mse"), True, 0.25),))
    result = compress(tensors, (own_bits, rest))
    coded, kernel = result.tensors[embedding], result.tensors[KERNEL]
    assert isinstance(coded, QuantizedTensor)
    assert isinstance(kernel, QuantizedTensor)
    assert (coded.spec.bits, kernel.spec.bits) == (3, 8)
    assert result.masks[embedding].mean() == 0.75
    assert KERNEL not in result.masks

    result = compress(tensors, (ByRule((Rule(".*/kernel", QuantSpec(8, "row")),)), LowRank(rank=4), rest))
    assert isinstance(result.tensors[embedding], LowRankTensor)
    assert isinstance(result.tensors[KERNEL], QuantizedTensor)
    singular = np.linalg.svd(tensors[embedding].astype(float), compute_uv=False)
    error = np.linalg.norm(result.tensors[embedding].dense() - tensors[embedding])
    assert error == pytest.approx(np.linalg.norm(singular[4:]), rel=0.01)
