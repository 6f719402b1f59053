"""The same run on every mesh: equal losses, parameters split as the rules say, no needless communication."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import jax
import numpy as np
import pytest
from rich.console import Console

from tests.builders import lines, write_pairs
from tlc_jax import train
from tlc_jax.config import (
    BudgetConfig,
    Config,
    DataConfig,
    EncoderDecoderConfig,
    MeshConfig,
    MlmConfig,
    ModelConfig,
    PairsConfig,
    TranslationConfig,
)
from tlc_jax.core import stopping, tree
from tlc_jax.core.errors import Interrupted, UserError
from tlc_jax.models.families import family_of
from tlc_jax.parallel.mesh import check_divides, make_mesh, place, rows_of
from tlc_jax.parallel.sharding import param_shardings, placements
from tlc_jax.tasks.kinds import kind_of
from tlc_jax.training.state import abstract_params, init_state
from tlc_jax.training.step import compile_train_step, make_train_step

KINDS = r"\b(all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter)(?:-start)?\("
# all of them with both models, through the command and on two processes: benchmarks/meshes.py
MESHES = [("encoder", shape) for shape in [(8, 1, 1), (1, 8, 1), (2, 2, 2), (4, 1, 2)]]
MESHES += [("encoder_decoder", (2, 2, 2)), ("bert", (2, 2, 2))]
both = pytest.mark.parametrize("config", ["encoder", "encoder_decoder"], indirect=True, scope="module")
on_meshes = pytest.mark.parametrize(("config", "on_a_mesh"), MESHES, indirect=True, scope="module", ids=str)
SHAPE = {"num_layers": 2, "hidden_size": 32, "head_size": 8, "vocab_size": 301}
ENCODERS = {
    "encoder": {},
    "bert": {"architecture": "bert", "position_offset": 0, "token_types": 2, "tied_output": False},
}


@pytest.fixture(scope="module")
def config(request, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Config:
    cache, budget = str(tmp_path_factory.mktemp("cache")), BudgetConfig(steps=100)
    if request.param in ENCODERS:
        data = DataConfig(dir=str(corpus), cache_dir=cache, sequence_length=32, held_out=0.1)
        model = ModelConfig(**SHAPE, max_positions=32, **ENCODERS[request.param])
        return Config(model=model, task=MlmConfig(), data=data, batch_size=32, micro_batch=16, budget=budget)
    folder = str(write_pairs(tmp_path_factory.mktemp("pairs")))
    sets = {"train": "one.tsv", "validation": "validation.tsv", "test": "test.tsv"}
    pairs = PairsConfig(dir=folder, cache_dir=cache, sequence_length=40, max_shapes=1, **sets)
    model, task = EncoderDecoderConfig(**SHAPE), TranslationConfig(row_multiple=16)
    return Config(model=model, task=task, data=pairs, batch_size=1024, micro_batch=512, budget=budget)


@pytest.fixture(scope="module")
def task(config: Config):
    kind = kind_of(config)
    return kind.task(config, kind.prepare(config, Console(quiet=True)))


def mesh_of(shape: tuple[int, int, int]) -> jax.sharding.Mesh:
    return make_mesh(MeshConfig(*shape), jax.devices()[: int(np.prod(shape))])


@dataclasses.dataclass(frozen=True)
class Trained:
    """Twenty steps on a mesh: their losses, and the programs' texts."""

    shape: tuple[int, int, int]
    losses: list[float]
    programs: list[str]


def trained(task, config: Config, shape: tuple[int, int, int]) -> Trained:
    mesh, key, found = mesh_of(shape), jax.random.key(1), []
    state, optimizer = init_state(task, config.optimizer, jax.random.key(0), mesh)
    samples = [place(mesh, batch) for batch in task.sample_batches(rows_of(mesh))]
    control = {"learning_rate": np.array(3e-3, np.float32)}
    step = make_train_step(task, config, optimizer, mesh)
    program = compile_train_step(step, state, samples, key, control, mesh)
    for number in range(20):
        state, sums = program(state, place(mesh, task.train_batch(number, rows_of(mesh))), key, control)
        found.append(float(sums["loss"] / sums["weight"]))
    shardings = param_shardings(mesh, state.params, task.family.sharding_rules)
    for path, x in tree.flatten(state.params).items():
        assert x.sharding == tree.flatten(shardings)[path], path
    return Trained(shape, found, [compiled.as_text() or "" for compiled in program.by_shape.values()])


@pytest.fixture(scope="module")
def alone(task, config: Config) -> list[float]:
    return trained(task, config, (1, 1, 1)).losses


@pytest.fixture(scope="module")
def on_a_mesh(task, config, request: pytest.FixtureRequest) -> Trained:
    return trained(task, config, request.param)


@pytest.mark.slow
@on_meshes
def test_every_mesh_has_the_losses_of_one_device(on_a_mesh: Trained, alone: list[float]) -> None:
    """With dropout, in two micro-batches."""
    np.testing.assert_allclose(on_a_mesh.losses, alone, atol=1e-5)
    assert alone[-1] < alone[0] - 0.3, "it learns"


@pytest.mark.slow
@on_meshes
def test_nothing_is_sent_from_one_device_to_another_only(on_a_mesh: Trained) -> None:
    """All-to-all and collective-permute are how the compiler mends a layout that the rules left open."""
    for text in on_a_mesh.programs:
        kinds = set(re.findall(KINDS, text))
        assert kinds <= {"all-reduce", "all-gather", "reduce-scatter"}
        assert ("all-gather" in kinds) == (max(on_a_mesh.shape[1:]) > 1)


@pytest.mark.slow
@both
def test_each_device_holds_its_share(task, config: Config) -> None:
    mesh = mesh_of((1, 8, 1))
    state, _ = init_state(task, config.optimizer, jax.random.key(0), mesh)
    lines = {line.path: line for line in placements(mesh, state.params, task.family.sharding_rules)}
    for tree_of in (state.params, state.optimizer[0].mu, state.optimizer[0].nu):
        for path, x in tree.flatten(tree_of).items():
            here = x.addressable_shards[0].data
            assert here.nbytes == lines[path].bytes_per_device
            small = re.search(r"(bias|scale|position_embedding|mlm_head/dense/kernel)$", path)
            assert here.size == (x.size if small else x.size // 8), path


@pytest.mark.slow
def test_a_run_is_resumed_on_another_mesh(command, finished, tmp_path, monkeypatch, capsys) -> None:
    asked = iter([False] * 6 + [True])  # step 6 asks again after its evaluation
    with monkeypatch.context() as patch:
        patch.setattr(stopping, "requested", lambda: next(asked))
        with pytest.raises(Interrupted, match="step 6"):
            train.main(command(tmp_path / "run", "--mesh.fsdp", "4", "--mesh.tensor", "2"))
    train.main(command(tmp_path / "run", "--mesh.fsdp", "2"))
    assert "resuming after step 6" in capsys.readouterr().out
    for ours, theirs in zip(lines(tmp_path / "run"), lines(finished), strict=True):
        assert ours.keys() == theirs.keys()
        for name, value in theirs.items():
            assert ours[name] == pytest.approx(value, rel=1e-4, abs=1e-6), (ours["step"], name)


@both
def test_what_does_not_split_is_refused(config: Config) -> None:
    narrow = dataclasses.replace(config, model=dataclasses.replace(config.model, feed_forward_size=36))
    params = abstract_params(kind_of(narrow).objective(narrow))
    with pytest.raises(
        UserError, match=r"feed_forward/contract/kernel .* of 36 does not split over 8 devices"
    ):
        param_shardings(mesh_of((1, 1, 8)), params, family_of(narrow.model).sharding_rules)
    with pytest.raises(UserError, match=r"mesh.data 2 x mesh.fsdp 2 x mesh.tensor 1 are not the 8 devices"):
        make_mesh(MeshConfig(data=2, fsdp=2))
    with pytest.raises(UserError, match=r"mesh.fsdp 16 x mesh.tensor 1 do not divide the 8 devices"):
        make_mesh(MeshConfig(fsdp=16))
    with pytest.raises(UserError, match="does not split over 8 devices: the run keeps it, so take a number"):
        check_divides(mesh_of((8, 1, 1)), 12, "micro_batch", kept=True)
    with pytest.raises(ValueError, match=r"mesh.tensor 8 does not divide the 4 attention heads"):
        dataclasses.replace(config, mesh=MeshConfig(tensor=8))
