"""The profiler of benchmarks/operations.py: products as XLA counts them, groups by scope."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

from tests.project.benchmark_scripts import load_benchmark


@pytest.fixture
def operations(monkeypatch: pytest.MonkeyPatch):
    return load_benchmark("operations", monkeypatch)


def test_operations_of_products_are_those_that_xla_counts(operations) -> None:
    def layer(x: jax.Array, w: jax.Array) -> jax.Array:
        with jax.named_scope("feed_forward"):
            return jnp.einsum("bsh,hf->bsf", x, w)

    compiled = jax.jit(layer).lower(jnp.ones((2, 8, 16)), jnp.ones((16, 24))).compile()
    counted = [
        each for each in operations.instructions(compiled.as_text()).values() if each.opcode != "fusion"
    ]
    products = [each for each in counted if each.flops]
    assert [each.flops for each in products] == [2 * 2 * 8 * 16 * 24]
    analysis = compiled.cost_analysis()
    assert analysis is not None
    assert products[0].flops == analysis["flops"]
    assert operations.group_of(products[0].source, {"feed-forward": "feed_forward"}) == "feed-forward"


def test_a_product_inside_a_fusion_counts_for_the_fusion(operations) -> None:
    text = """
%fused_computation (param_0: f32[4,8], param_1: f32[8,16]) -> f32[4,16] {
  %param_0 = f32[4,8]{1,0} parameter(0)
  %param_1 = f32[8,16]{1,0} parameter(1)
  ROOT %dot.1 = f32[4,16]{1,0} dot(%param_0, %param_1), lhs_contracting_dims={1}, rhs_contracting_dims={0}, \
metadata={op_name="jit(f)/head/dot_general"}
}

ENTRY %main (a: f32[4,8], b: f32[8,16]) -> f32[4,16] {
  %a = f32[4,8]{1,0} parameter(0)
  %b = f32[8,16]{1,0} parameter(1)
  ROOT %fusion = f32[4,16]{1,0} fusion(%a, %b), kind=kCustom, calls=%fused_computation
}
"""
    fusion = operations.instructions(text)["fusion"]
    assert (fusion.opcode, fusion.source, fusion.flops) == (
        "fusion",
        "jit(f)/head/dot_general",
        2 * 4 * 8 * 16,
    )


def test_the_first_pattern_that_fits_names_the_group(operations) -> None:
    groups = {"attention": r"/attention(/|$)", "layer norms": r"norm"}
    assert operations.group_of("jit(f)/layers/attention/query/dot_general", groups) == "attention"
    assert operations.group_of("jit(f)/layers/attention_norm/mul", groups) == "layer norms"
    assert operations.group_of("jit(f)/add", groups) == "other"
