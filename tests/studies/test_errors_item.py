"""Errors items of a whole study: against numpy, and against the network before its first update."""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np
import pytest

from tests import builders
from tlc_jax import study
from tlc_jax.config import ModelConfig
from tlc_jax.core import tree
from tlc_jax.models.encoder import init_mlm
from tlc_jax.storage.run_directory import RunDir
from tlc_jax.studies.item_store import ItemStore
from tlc_jax.training.state import seed_keys

pytestmark = pytest.mark.slow
CONFIG = """
from tlc_jax.config import *
from tlc_jax.config.study_options import StudyConfig

def get_config():
    train = Config(
        model=ModelConfig(head_size=8, vocab_size=300, max_positions=32),
        data=DataConfig(dir={corpus!r}, sequence_length=32, held_out=0.1, cache_dir={cache!r}),
        budget=BudgetConfig(steps=6),
        optimizer=OptimizerConfig(learning_rate=1e-2),
        batch_size=16,
        seed=5,
    )
    return StudyConfig(train=train, sizes=("1x16", "2x16"), bits=(), sparsities=())
"""
QUERY = "encoder/layers/attention/query/kernel"


@pytest.fixture(scope="module")
def finished(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study that grew by its errors after it was finished."""
    root = tmp_path_factory.mktemp("errors")
    document = root / "tiny.py"
    document.write_text(CONFIG.format(corpus=str(corpus), cache=str(root / "cache")))
    command = ["--config", str(document), "--workdir", str(root / "study")]
    study.main(command)
    assert not ItemStore(root / "study").rows(stage="errors")
    study.main([*command, "--errors"])
    return root / "study"


def paper_error(layers: np.ndarray) -> list[float]:
    """Mean |v - w| of each layer at 4 bits between its smallest and its largest weight (paper 4.2)."""
    errors = []
    for x in layers.astype(np.float64):
        delta = (x.max() - x.min()) / 15
        errors.append(float(np.abs(delta * np.round((x - x.min()) / delta) + x.min() - x).mean()))
    return errors


def test_errors_are_those_of_the_finished_and_of_the_untrained_network(finished: Path) -> None:
    run = finished / "runs" / "2x16/seed5/trained"
    model = RunDir(run).read_config().model
    assert isinstance(model, ModelConfig)
    begun = jax.jit(lambda key: init_mlm(model, key))(seed_keys(5)[0])
    weights = {False: builders.parameters(run)[QUERY], True: np.asarray(tree.flatten(begun)[QUERY])}
    rows = ItemStore(finished).rows(stage="errors", size="2x16", module=QUERY, zero="float")
    for untrained, layers in weights.items():
        [row] = [r for r in rows if r["untrained"] is untrained and r["metric"] == "absolute_error"]
        errors = paper_error(layers)
        assert row["tensors"] == len(errors) == 2
        assert row["value"] == pytest.approx(np.mean(errors), rel=1e-3)
        assert row["deviation"] == pytest.approx(np.std(errors), rel=1e-2)
    assert not np.allclose(weights[True], weights[False])


def test_sizes_are_trained_for_as_many_updates_and_compared_so(
    finished: Path, capsys: pytest.CaptureFixture
) -> None:
    rows = ItemStore(finished).rows(stage="train", last=True)
    assert {(row["size"], row["step"], row["equal"]) for row in rows} == {
        ("1x16", 6, "updates"),
        ("2x16", 6, "updates"),
    }
    study.main(["--workdir", str(finished)])
    said = " ".join(capsys.readouterr().out.split())
    assert "4 bits, tensor, minmax, zero float (paper), mean |v - w|: 2x16 has" in said
    assert "at equal time" not in said
