"""What is known of a program before it runs: collectives from the compiler's text, FLOPs from shapes."""

from __future__ import annotations

import dataclasses
import math
import re
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from tlc_jax.config import (
    BudgetConfig,
    ClassificationConfig,
    Config,
    DataConfig,
    EncoderDecoderConfig,
    MeshConfig,
    ModelConfig,
    PairsConfig,
    TranslationConfig,
)
from tlc_jax.core.config_document import load_config
from tlc_jax.core.errors import UserError
from tlc_jax.models.encoder_decoder import apply_encoder_decoder, init_encoder_decoder
from tlc_jax.models.flops import mlm_update, translation_update
from tlc_jax.parallel.collectives import Collective, collectives
from tlc_jax.runs import ahead_of_time
from tlc_jax.runs.memory import compile_abstract
from tlc_jax.tasks.base import Objective
from tlc_jax.tasks.kinds import kind_of


def program(function, *shapes: tuple[tuple[int, ...], P]) -> str:
    mesh = jax.make_mesh((8,), ("x",), axis_types=(AxisType.Auto,))
    arguments = [
        jax.ShapeDtypeStruct(shape, jnp.float32, sharding=NamedSharding(mesh, spec)) for shape, spec in shapes
    ]
    text = jax.jit(function, out_shardings=NamedSharding(mesh, P())).lower(*arguments).compile().as_text()
    assert text is not None
    return text


def test_collectives_of_a_sum_and_of_a_gathered_array() -> None:
    assert collectives(program(lambda x: x.sum(0), ((64, 16), P("x")))) == [Collective("all-reduce", 1, 64)]
    assert collectives(program(lambda x: x * 2, ((64, 16), P("x")))) == [
        Collective("all-gather", 1, 64 * 16 * 4)
    ]
    assert collectives(program(lambda x: x * 2, ((64, 16), P()))) == []


def test_a_loop_counts_as_often_as_it_runs() -> None:
    def looped(x: jax.Array) -> jax.Array:
        return jax.lax.fori_loop(0, 5, lambda _, y: jnp.tanh((x * y[None]).sum(0)), jnp.ones(16))

    assert collectives(program(looped, ((64, 16), P("x")))) == [Collective("all-reduce", 5, 5 * 64)]


def test_a_tpus_text() -> None:
    """It names no trip counts: the loop's condition does. Types have layouts; two arrays are sent as one."""
    text = """HloModule jit_step
%condition.1 (p: (s32[], f32[4])) -> pred[] {
  %constant.9 = s32[]{:T(256)} constant(12)
  ROOT %lt = pred[]{:T(1024)} compare(%i, %constant.9), direction=LT
}

%body.1 (p: (s32[], f32[4])) -> (s32[], f32[4]) {
  %all-reduce.5 = (bf16[1,768]{1,0:T(4,128)(2,1)}, /*index=1*/f32[4]{0}) all-reduce(%a, %b), to_apply=%add
  %start = (f32[2,3]{1,0}, f32[16,3]{1,0}) all-gather-start(%c), dimensions={0}
  %done = f32[16,3]{1,0} all-gather-done(%start)
}

ENTRY %main (p: f32[4]) -> f32[4] {
  %while.1 = (s32[], f32[4]{0}) while(%init), condition=%condition.1, body=%body.1
  %collective-permute = f32[4]{0} collective-permute(%x), source_target_pairs={{0,1}}
}
"""
    assert collectives(text) == [
        Collective("all-gather", 12, 12 * 16 * 3 * 4),
        Collective("all-reduce", 12, 12 * (768 * 2 + 4 * 4)),
        Collective("collective-permute", 1, 16),
    ]


@pytest.mark.parametrize(("size", "teraflops"), [((12, 768), 588), ((24, 1024), 1991), ((24, 1536), 4412)])
def test_flops_of_the_papers_sizes(size: tuple[int, int], teraflops: int) -> None:
    """Counted by hand in another place, of 8,192 rows of 128 tokens with 20 predictions."""
    model = ModelConfig(num_layers=size[0], hidden_size=size[1])
    assert round(mlm_update(model, 8192, 128, 20) / 1e12) == pytest.approx(teraflops, abs=1)


@pytest.mark.slow
def test_flops_are_those_of_the_compiler() -> None:
    """One layer, so that the compiler, which counts the body of a loop once, counts all; forward only."""
    model = EncoderDecoderConfig(num_layers=1, hidden_size=256, vocab_size=2048, dropout=0.0)
    params = jax.eval_shape(lambda key: init_encoder_decoder(model, key), jax.random.key(0))
    source, target = (jax.ShapeDtypeStruct((8, n), jnp.int32) for n in (48, 64))
    lowered = jax.jit(lambda *args: apply_encoder_decoder(model, *args)).lower(params, source, target)
    counted = lowered.compile().cost_analysis()["flops"]
    assert translation_update(model, 8, 48, 64) / 3 == pytest.approx(counted, rel=0.03)


def small(**more) -> Config:
    model = ModelConfig(num_layers=2, hidden_size=32, head_size=8, vocab_size=300, max_positions=32)
    data = DataConfig(sequence_length=32)
    return Config(model=model, data=data, batch_size=32, budget=BudgetConfig(steps=5), **more)


@pytest.mark.slow
def test_a_report_of_the_devices_that_are_here() -> None:
    config = small(mesh=MeshConfig(fsdp=8), micro_batch=16)
    found = ahead_of_time.compile_for(config, jax.devices(), print)
    assert found["fits"]
    assert {one["kind"] for one in found["collectives"]} <= {"all-gather", "all-reduce", "reduce-scatter"}
    assert found["flops_per_device"] == mlm_update(config.model, 32, 32, 5) / 8
    table = ahead_of_time.described(found)
    assert "mesh            data 1 x fsdp 8 x tensor 1" in table
    assert "all-gather" in table
    assert re.search(r"encoder/token_embedding +\[300, 32\] +- fsdp\+tensor +4,800 bytes", table)


@pytest.mark.slow
def test_a_classification_is_compiled_for_its_number_of_classes() -> None:
    config = dataclasses.replace(small(), task=ClassificationConfig(dropout=0.0))
    result = ahead_of_time.compile_for(config, jax.devices()[:1], print, 5)
    assert result["fits"]
    shapes = {line["path"]: line["shape"] for line in result["parameters"]}
    assert shapes["classification_head/output/kernel"] == (32, 5)
    # one layer, since a loop's body is counted once; wide, so that products are most of the work
    model = dataclasses.replace(config.model, num_layers=1, hidden_size=512, head_size=64)
    config = dataclasses.replace(config, model=model)
    objective = kind_of(config).objective(config, 5)
    batch = objective.largest_batch()
    params = jax.eval_shape(objective.init, jax.random.key(0))
    lowered = jax.jit(objective.logits).lower(params, batch)
    counted = lowered.compile().cost_analysis()["flops"]
    assert objective.update_flops(batch) / 3 == pytest.approx(counted, rel=0.05)


@pytest.mark.slow
def test_recovery_keeps_a_mask_of_a_byte_for_each_weight_that_may_be_pruned() -> None:
    plain, pruned = (
        ahead_of_time.compile_for(small(), jax.devices()[:1], print, pruned=p) for p in (False, True)
    )
    matrices = ("kernel", "embedding")
    tensors = {line["path"]: line["shape"] for line in plain["parameters"] if line["path"].endswith(matrices)}
    weights = sum(map(math.prod, tensors.values()))
    assert (pruned["peak_gib"] - plain["peak_gib"]) * 2**30 == pytest.approx(weights, rel=0.01)


@pytest.mark.slow
def test_auto_of_a_translation_is_one_of_its_sizes() -> None:
    """Tokens, such that 32 rows split over micro-batches and 8 devices: all, a half or a quarter of them."""
    model = EncoderDecoderConfig(num_layers=1, hidden_size=32, head_size=8, vocab_size=300)
    data, task = PairsConfig(sequence_length=16), TranslationConfig(row_multiple=32)
    more = {"batch_size": 512, "micro_batch": "auto", "memory_gib": 4.0, "budget": BudgetConfig(steps=5)}
    config = Config(model=model, data=data, task=task, **more)  # type: ignore[arg-type]
    tried: list[str] = []
    found = ahead_of_time.compile_for(config, jax.devices(), tried.append)
    assert (found["fits"], found["micro_batch"]) == (True, 512)
    assert [one.split(":")[0] for one in tried] == ["micro-batch of 256", "micro-batch of 512"]


def test_what_does_not_fit_is_reported_in_the_compilers_words(monkeypatch) -> None:
    def refused(*_) -> None:
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Ran out of memory\nand more")

    monkeypatch.setattr(ahead_of_time, "compile_abstract", refused)
    found = ahead_of_time.compile_for(small(), jax.devices(), print)
    assert not found["fits"]
    assert "does not fit    RESOURCE_EXHAUSTED: Ran out of memory" in ahead_of_time.described(found)


@pytest.mark.slow
def test_auto_is_the_largest_that_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The peaks of the three micro-batches that 32 rows on 8 devices allow, and limits between them."""
    compiled: dict[int, Any] = {}

    def once(objective: Objective, config: Config, *more: Any) -> Any:
        if config.at_once not in compiled:
            compiled[config.at_once] = compile_abstract(objective, config, *more)
        return compiled[config.at_once]

    monkeypatch.setattr(ahead_of_time, "compile_abstract", once)
    peaks = {
        n: ahead_of_time.compile_for(small(micro_batch=n), jax.devices(), print)["peak_gib"]
        for n in (8, 16, 32)
    }
    assert peaks[8] < peaks[16] < peaks[32]
    tried: list[str] = []
    for memory, expected in ((peaks[32], 32), ((peaks[16] + peaks[32]) / 2, 16), (peaks[8], 8)):
        auto = small(micro_batch="auto", memory_gib=memory)
        found = ahead_of_time.compile_for(auto, jax.devices(), tried.append)
        assert (found["fits"], found["micro_batch"]) == (True, expected)
    assert tried[0] == f"micro-batch of 16: {peaks[16]:.4g} GiB"
    found = ahead_of_time.compile_for(
        small(micro_batch="auto", memory_gib=peaks[8] / 2), jax.devices(), tried.append
    )
    assert (found["fits"], found["micro_batch"]) == (False, 8)
    assert re.search(r"does not fit +it needs \S+ GiB more than memory_gib", ahead_of_time.described(found))


def test_what_cannot_be_compiled_is_refused() -> None:
    with pytest.raises(UserError, match="no micro-batch splits over 8 devices: take a batch_size"):
        ahead_of_time.compile_for(
            dataclasses.replace(small(), batch_size=20, micro_batch="auto"), jax.devices(), print
        )
    classification = load_config("finetune_sst2", Config)
    with pytest.raises(UserError, match="how many classes it has: give --classes"):
        kind_of(classification).objective(classification)
    with pytest.raises(UserError, match=r"--topology 'nonsense' cannot be compiled for"):
        ahead_of_time.topology_devices("nonsense")
    with pytest.raises(UserError, match=r"--topology '' cannot be compiled for \(it has no name\)"):
        ahead_of_time.topology_devices("")
