"""CoLA by the commands: everything that is judged is judged by the Matthews correlation.

The data are generated, in the format of TFDS's glue/cola: sentence, label, idx; test has the label -1."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import matthews_corrcoef

from tests.builders import documents, write_tfds
from tlc_jax import compress, evaluate, study, train
from tlc_jax.artifacts.artifact import read_artifact
from tlc_jax.storage.run_directory import RunDir
from tlc_jax.studies.item_store import ItemStore
from tlc_jax.training.metrics import read_metrics

pytestmark = pytest.mark.slow

LABELS = ("unacceptable", "acceptable")
SIZES = {"train": 500, "validation": 80, "test": 10}
SMALL = "--data.sequence-length 32 --data.held-out 0.2 --budget.steps 60 --evaluation.every-steps 5".split()
SMALL += "--optimizer.learning-rate 3e-3 --task.dropout 0 --batch-size 32 --log-every 10".split()


def sentences(count: int, seed: int) -> list[tuple[str, int]]:
    """Three in ten are unacceptable, which their words tell, but for one in twenty."""
    rng = np.random.default_rng(seed)
    words = sorted({word for text in documents(50) for word in text.split()})[:40]
    rows = []
    for label in (rng.random(count) < 0.7).astype(int).tolist():
        own = words[:25] if label != (rng.random() < 0.05) else words[15:]
        rows.append((" ".join(rng.choice(own, 8)), label))
    return rows


@pytest.fixture(scope="module")
def tfds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    splits = {
        split: [
            {"sentence": text, "label": -1 if split == "test" else label, "idx": i}
            for i, (text, label) in enumerate(sentences(size, seed=len(split)))
        ]
        for split, size in SIZES.items()
    }
    features = {"sentence": str, "label": LABELS, "idx": np.int32}
    return write_tfds(tmp_path_factory.mktemp("cola"), "glue/cola", features, splits)


def order(pretrained: Path, tfds: Path, workdir: Path, *more: str) -> list[str]:
    options = ["--config", "finetune_cola", "--init-from", str(pretrained), "--workdir", str(workdir)]
    return [*options, "--data.dir", str(tfds), "--data.cache-dir", str(tfds / "cache"), *SMALL, *more]


@pytest.fixture(scope="module")
def run(finished: Path, tfds: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny pretrained model, finetuned."""
    workdir = tmp_path_factory.mktemp("runs") / "cola"
    train.main(order(finished, tfds, workdir))
    return workdir


def value(run: Path, metric: str) -> list[float]:
    """The values of a metric on the tuning set while the run was trained."""
    key = f"eval/tuning/{metric}"
    return [line[key] for line in read_metrics(RunDir(run).metrics) if key in line]


def said_by(capsys: pytest.CaptureFixture) -> str:
    return " ".join(capsys.readouterr().out.split())


def test_evaluate_says_the_correlation_of_the_predictions_and_of_the_baselines(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Against scikit-learn, on the file that `evaluate --predictions` writes."""
    capsys.readouterr()
    file = tmp_path / "predictions.jsonl"
    evaluate.main(["--checkpoint", str(run), "--task", "cola", "--json", "--predictions", str(file)])
    said = json.loads(capsys.readouterr().out)
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    for name in ("tuning", "validation"):
        own = [line for line in lines if line["set"] == name]
        labels = [line["label"] for line in own]
        assert set(labels) == set(LABELS)
        for predictor, metric in (("predicted", "matthews"), ("linear", "linear_matthews")):
            expected = matthews_corrcoef(labels, [line[predictor] for line in own])
            assert said[f"eval/{name}/{metric}"] == pytest.approx(expected, abs=1e-9)
        assert said[f"eval/{name}/majority_matthews"] == 0 < said[f"eval/{name}/matthews"] < 1
    evaluate.main(["--checkpoint", str(run)])
    expected = f"majority_matthews 0, matthews {said['eval/validation/matthews']:.4g}"
    assert expected in said_by(capsys)


def test_early_stopping_follows_the_correlation(
    finished: Path, tfds: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Not the accuracy, which is above the mark from the start."""
    train.main(order(finished, tfds, tmp_path / "w", "--evaluation.stop-at", "0.5"))
    found = value(tmp_path / "w", "matthews")
    assert read_metrics(RunDir(tmp_path / "w").metrics)[-1]["step"] < 60, "it stops before its budget"
    assert all(matthews < 0.5 for matthews in found[:-1])
    assert found[-1] >= 0.5
    assert value(tmp_path / "w", "accuracy")[0] > 0.5 > found[0]
    said = said_by(capsys)
    assert "to beat tuning matthews: majority class 0, bag of words 0." in said
    assert re.search(r" tuning: matthews [\d.]+ \(majority class 0, bag of words [\d.]+\), accuracy ", said)


RECIPE = """
from tlc_jax.config.compression import CompressConfig, RecoveryConfig

def get_config():
    recovery = RecoveryConfig(levels=(0.5, 0.8), target=0.9, max_epochs=2, evaluate_every=4)
    return CompressConfig(bits=6, sparsity=0.8, recovery=recovery)
"""


def test_compression_and_recovery_follow_the_correlation(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    dense, source = value(run, "matthews")[-1], ["--checkpoint", str(run)]
    capsys.readouterr()
    compress.main([*source, "--bits", "3", "--sparsity", "0.6", "--out", str(tmp_path / "small")])
    assert re.search(rf"quality before after tuning matthews {dense:.4g} -?[\d.e-]+ tuning", said_by(capsys))
    (tmp_path / "recipe.py").write_text(RECIPE, encoding="utf-8")
    recipe = ["--config", str(tmp_path / "recipe.py"), "--workdir", str(tmp_path / "rounds")]
    compress.main([*source, *recipe, "--out", str(tmp_path / "recovered")])
    said = said_by(capsys)
    assert f"eval/tuning/matthews {dense:.4f} before pruning; target {0.9 * dense:.4f}" in said
    rounds = read_artifact(tmp_path / "recovered").manifest["recovery"]
    for level, found in zip((50, 80), rounds, strict=True):
        trained = value(tmp_path / "rounds" / f"pruned-{level}", "matthews")
        assert [trained[0], trained[-1]] == [found["pruned_matthews"], found["recovered_matthews"]]
        assert all(matthews < 0.9 * dense for matthews in trained[:-1]), "it ends once the target is reached"


def test_a_file_of_so_many_bytes_is_chosen_by_the_correlation(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    capsys.readouterr()
    compress.main(["--checkpoint", str(run), "--target-mb", "0.03", "--out", str(tmp_path / "mix")])
    said = said_by(capsys)
    target = read_artifact(tmp_path / "mix").manifest["target"]
    found = {candidate["name"]: candidate["eval/tuning/matthews"] for candidate in target["candidates"]}
    assert found[target["chosen"]] == max(found.values()) > min(found.values())
    dense = value(run, "matthews")[-1]
    assert f"quality before after tuning matthews {dense:.4g} {found[target['chosen']]:.4g} " in said


STUDY = """
from tlc_jax.config import *

def get_config():
    return StudyConfig(
        train=Config(
            model=ModelConfig(head_size=8, vocab_size=300, max_positions=32),
            data=DataConfig(dir={corpus!r}, sequence_length=32, held_out=0.1, cache_dir={cache!r}),
            schedule=ScheduleConfig(follows="training_seconds"),
            budget=BudgetConfig(training_seconds=0.2),
            batch_size=16,
        ),
        finetune=Config(
            task=ClassificationConfig(dropout=0.0),
            data=DataConfig(
                name="glue/cola", dir={tfds!r}, sequence_length=32, held_out=0.2, cache_dir={cache!r}
            ),
            optimizer=OptimizerConfig(learning_rate=3e-3),
            budget=BudgetConfig(steps=60),
            batch_size=32,
        ),
        sizes=("1x16", "1x32"),
        bits=(32, 4),
        sparsities=(0.0,),
    )
"""


def test_a_study_judges_by_the_correlation(
    corpus: Path, tfds: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    places = {"corpus": str(corpus), "tfds": str(tfds), "cache": str(tfds / "cache")}
    (tmp_path / "tiny.py").write_text(STUDY.format(**places), encoding="utf-8")
    study.main(["--config", str(tmp_path / "tiny.py"), "--workdir", str(tmp_path / "study")])
    _, _, verdict = said_by(capsys).partition("matthews on validation; bytes of the file")
    verdict, _, _ = verdict.partition("What compression costs")  # the next table
    rows = ItemStore(tmp_path / "study").rows(stage="compress", set="validation")
    [linear] = {row["value"] for row in rows if row["metric"] == "linear_matthews"}
    assert f"bag of words {linear:.4f}" in verdict
    named = re.findall(r"(?:to \d+ kB:|against) (\w+) at (\d+) bits, (-?[\d.]+), [\d,]+ kB[.;:]", verdict)
    values = {(r["size"], str(r["bits"])): r["value"] for r in rows if r["metric"] == "matthews"}
    assert all(f"{values[size, bits]:.4f}" == matthews for size, bits, matthews in named)
    assert len(named) == verdict.count("Up to") + verdict.count("against") > 0
    assert "matthews is that on validation" in verdict
    assert "Differences are those of the accuracy." in verdict
