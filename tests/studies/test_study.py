"""A whole study of two tiny sizes: pretrain, finetune, compress, compare; interrupted and gone on with."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.builders import write_tables
from tlc_jax import compress, evaluate, study, train
from tlc_jax.config import CompressConfig, Rule
from tlc_jax.config.study_options import SearchConfig, StudyConfig
from tlc_jax.core.errors import UserError
from tlc_jax.studies import grid
from tlc_jax.studies.frontier import compressed_models, pack
from tlc_jax.studies.result_store import ResultStore
from tlc_jax.studies.results import check_result
from tlc_jax.studies.verdict import headline

CONFIG = """
from tlc_jax.config import *
from tlc_jax.config import CompressConfig, Rule
from tlc_jax.config.study_options import SearchConfig, StudyConfig

model = ModelConfig(head_size=8, vocab_size=300, max_positions=32)

def get_config():
    return StudyConfig(
        pretrain=Config(
            model=model,
            data=DataConfig(dir={corpus!r}, sequence_length=32, held_out=0.1, cache_dir={cache!r}),
            schedule=ScheduleConfig(follows="training_seconds", local_attention=0.5),
            budget=BudgetConfig(training_seconds=0.5),
            evaluation=EvaluationConfig(every_steps=100),
            batch_size=16,
            log_every=4,
        ),
        finetune=Config(
            task=ClassificationConfig(),
            data=DataConfig(dir={tables!r}, sequence_length=16, held_out=0.1, cache_dir={cache!r}),
            budget=BudgetConfig(steps=4),
            batch_size=16,
            log_every=2,
        ),
        search=SearchConfig(seeds=(1, 2)),
        sizes=("1x16", "2x16"),
        bits=(32, 4),
        sparsities=(0.0, 0.5),
    )
"""


@pytest.fixture(scope="module")
def command(corpus: Path, tmp_path_factory: pytest.TempPathFactory):
    root = tmp_path_factory.mktemp("study")
    tables = write_tables(root / "tables", 120)
    text = CONFIG.format(corpus=str(corpus), tables=str(tables), cache=str(root / "cache"))
    (root / "tiny.py").write_text(text)
    return lambda workdir, *more: ["--config", str(root / "tiny.py"), "--workdir", str(workdir), *more]


def results(workdir: Path) -> list[dict]:
    path = workdir / "results.jsonl"
    whole = path.read_text().rpartition("\n")[0] if path.exists() else ""
    return [json.loads(line) for line in whole.splitlines()]


@pytest.fixture(scope="module")
def finished(command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study that was killed while it compressed the first size, in processes with one device each."""
    workdir = tmp_path_factory.mktemp("studies") / "one"
    flags = os.environ["XLA_FLAGS"].replace("device_count=8", "device_count=1")
    environment = {**os.environ, "XLA_FLAGS": flags}
    start = [sys.executable, "-m", "tlc_jax.study", *command(workdir)]
    with subprocess.Popen(start, env=environment, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None and len(results(workdir)) < 4:
            time.sleep(0.02)
        process.kill()
    before = results(workdir)
    assert 4 <= len(before) < 11, "it was killed in the middle of the first size's compression"
    with (workdir / "results.jsonl").open("a") as file:
        file.write('{"stage": "comp')  # as a process leaves it that is killed while it writes
    subprocess.run(start, env=environment, stdout=subprocess.DEVNULL, check=True)
    assert results(workdir)[: len(before)] == before
    return workdir


@pytest.mark.slow
def test_nothing_is_done_twice_and_nothing_is_missing(finished: Path) -> None:
    found = results(finished)
    sizes, seeds = ("1x16", "2x16"), ("seed1", "seed2")

    def done(stage: str, *fields: str) -> list[tuple]:
        return [tuple(r[field] for field in fields) for r in found if r["stage"] == stage]

    assert done("pretrain", "size") == [("1x16",), ("2x16",)]
    assert done("finetune", "size", "seed") == list(itertools.product(sizes, seeds))
    expected = list(itertools.product(sizes, seeds, (0.0, 0.5), (32, 4)))
    assert done("compress", "size", "seed", "sparsity", "bits") == expected
    [finetuned] = (finished / "1x16").glob("lr*-seed1")
    starts = json.loads((finetuned / "environment.json").read_text())["starts"]
    assert len(starts) == 1, "a finished run is not started again"
    assert (finished / "study.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_numbers_are_those_of_the_runs(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """The uncompressed row of a size is what `evaluate` says of its finetuned run."""
    store = ResultStore(finished / "results.jsonl")
    [dense] = store.find(stage="compress", size="2x16", seed="seed2", bits=32, sparsity=0.0)
    run, lines = finished / "2x16" / f"{dense['name']}-seed2", tmp_path / "new" / "predictions.jsonl"
    evaluate.main(["--checkpoint", str(run), "--json", "--predictions", str(lines)])
    said = json.loads(capsys.readouterr().out)
    [tuned] = store.find(stage="finetune", size="2x16", seed="seed2")
    assert tuned["accuracy"] == dense["tuning_accuracy"] == said["eval/tuning/accuracy"]
    predicted = [json.loads(line) for line in lines.read_text().splitlines()]
    for name, size in (("tuning", len(predicted) - 51), ("test", 51)):
        own = [line for line in predicted if line["set"] == name]
        assert [line["example"] for line in own] == list(range(size))
        for kind, metric in (("predicted", "accuracy"), ("linear", "linear_accuracy")):
            right = sum(line[kind] == line["label"] for line in own)
            assert right == pytest.approx(said[f"eval/{name}/{metric}"] * size)
    [model] = [m for m in compressed_models(store) if (m.size, m.bits, m.sparsity) == ("2x16", 32, 0.0)]
    assert model.correct[1].tolist() == [line["predicted"] == line["label"] for line in own]
    assert model.values[1] == dense["accuracy"]
    assert dense["accuracy"] == said["eval/test/accuracy"]
    assert dense["linear_accuracy"] == said["eval/test/linear_accuracy"]
    assert said["step"] == dense["step"] == 4
    assert dense["paper_bytes"] == 4 * dense["parameters"]
    half = store.find(stage="compress", size="2x16", bits=4, sparsity=0.5)[0]
    assert half["paper_bytes"] == half["nonzeros"] / 2
    assert 0.45 < half["nonzeros"] / half["parameters"] < 0.6


@pytest.mark.slow
@pytest.mark.parametrize(("bits", "sparsity"), [(32, 0.5), (4, 0.5), (4, 0.0)])
def test_a_row_is_what_compress_writes(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture, bits: int, sparsity: float
) -> None:
    """Accuracies and all three sizes, bit for bit, of the same recipe."""
    [row] = ResultStore(finished / "results.jsonl").find(
        stage="compress", size="2x16", seed="seed2", bits=bits, sparsity=sparsity
    )
    run, out = finished / "2x16" / f"{row['name']}-seed2", tmp_path / "out"
    options = ["--bits", str(bits), "--sparsity", str(sparsity), "--out", str(out)]
    compress.main(["--checkpoint", str(run), *options])
    manifest = json.loads((out / "manifest.json").read_text())
    assert row["paper_bytes"] == manifest["size"]["paper_bytes"]
    assert row["format_bytes"] == manifest["size"]["format_bytes"]
    assert row["file_bytes"] == (out / "model.safetensors").stat().st_size
    assert (row["parameters"], row["nonzeros"]) == (
        manifest["size"]["weights"],
        manifest["size"]["nonzeros"],
    )
    tables = json.loads((finished / "study.json").read_text())["finetune"]["data"]["dir"]
    capsys.readouterr()
    evaluate.main(["--checkpoint", str(out), "--json", "--data.dir", tables])
    said = json.loads(capsys.readouterr().out)
    assert row["metric"] == "accuracy"
    assert row["accuracy"] == said["eval/test/accuracy"]
    assert row["tuning_accuracy"] == said["eval/tuning/accuracy"]


@pytest.mark.slow
def test_another_config_is_refused(command, finished: Path) -> None:
    with pytest.raises(UserError, match="study of another config"):
        study.main(command(finished, "--bits", "8"))


@pytest.mark.slow
def test_model_and_tokenizer_come_from_the_run(command, finished: Path, tmp_path: Path) -> None:
    workdir = tmp_path / "w"
    options = ["--config", "finetune_sst2", "--workdir", str(workdir)]
    source = ["--init-from", str(finished / "2x16" / "pretrained")]
    with pytest.raises(UserError, match=r"no --model\.\*"):
        train.main([*options, *source, "--model.num-layers", "3"])
    with pytest.raises(UserError, match="32 positions"):
        train.main([*options, *source])
    assert not workdir.exists()


def test_the_tuning_set_chooses(tmp_path: Path) -> None:
    store = ResultStore(tmp_path / "results.jsonl")
    tried = [("a", 0.9, 0.5), ("a", 0.6, 0.5), ("b", 0.8, 0.6), ("c", 0.8, 0.4), ("d", 0.6, 0.1)]
    for name, accuracy, loss in tried:
        store.add({"stage": "finetune", "size": "2x64", "name": name, "accuracy": accuracy, "loss": loss})
        store.add({"stage": "finetune", "size": "4x64", "name": "x", "accuracy": 0.99, "loss": 0.0})
    assert grid.best_finetuning(store, "2x64") == "c"


def test_the_metric_of_the_task_decides(tmp_path: Path) -> None:
    """Accuracies and losses say otherwise; a direction is a part of the metric."""
    for metric, higher in (("matthews", True), ("nats_per_byte", False)):
        store = ResultStore(tmp_path / f"{metric}.jsonl")
        fields = {"stage": "finetune", "size": "2x64", "metric": metric, "higher_is_better": higher}
        for name, accuracy, loss, value in (("a", 0.9, 0.1, 0.2), ("b", 0.8, 0.5, 0.4), ("c", 0.7, 0.2, 0.3)):
            store.add({**fields, "name": name, "accuracy": accuracy, "loss": loss, metric: value})
        assert grid.best_finetuning(store, "2x64") == ("b" if higher else "a")


def test_a_search_is_a_grid_over_as_many_rows() -> None:
    search = SearchConfig(learning_rates=(1e-3, 1e-4), batch_sizes=(16, 32), dropouts=(0.1, 0.2, 0.3))
    found = StudyConfig(search=replace(search, seeds=(3, 5))).finetunings()
    assert all([run.seed for run in seeds.values()] == [3, 5] for seeds in found.values())
    tried = {name: seeds["seed3"] for name, seeds in found.items()}
    assert len(tried) == 12
    assert len({(c.optimizer.learning_rate, c.batch_size, c.task.dropout) for c in tried.values()}) == 12
    assert {c.batch_size * c.budget.steps for c in tried.values()} == {32 * 20_000}
    [only] = StudyConfig().finetunings().values()
    assert only == {"seed0": StudyConfig().finetune}
    with pytest.raises(ValueError, match="a value twice"):
        SearchConfig(seeds=(1, 1))
    rules = CompressConfig(rules=(Rule("x"),))
    assert all(each.rules == rules.rules for each in StudyConfig(compression=rules).compressions())
    for option in ({"bits": 4}, {"sparsity": 0.5}, {"target_mb": 1.0}):
        with pytest.raises(ValueError, match="give none of compression.bits, compression.sparsity"):
            StudyConfig(compression=CompressConfig(**option))


def store_of(tmp_path: Path, perplexities: dict[str, float], linear: float = 0.7) -> ResultStore:
    store = ResultStore(tmp_path / "results.jsonl")
    for size, perplexity in perplexities.items():
        lines = {"unigram_perplexity": 700.0, "bigram_perplexity": 90.0, "training_seconds": [60.0]}
        store.add({"stage": "pretrain", "size": size, "perplexity": [perplexity], **lines})
    fields = {"sparsity": 0.0, "set": "test", "examples": 8, "paper_bytes": 1500.0}
    fields |= {"linear_accuracy": linear}
    for size, (bits, right) in itertools.product(perplexities, ((32, 6), (4, 5))):
        own = {
            "size": size,
            "bits": bits,
            "accuracy": right / 8,
            "correct": pack(np.arange(8) < right),
            "tuning_accuracy": right / 8,
        }
        store.add({"stage": "compress", **fields, **own})
    return store


def test_the_headline_names_the_metric(tmp_path: Path) -> None:
    """Its values are those of the results, and the paired test says that it compares accuracies."""
    accuracies = store_of(tmp_path, {"2x64": 120.0, "2x128": 80.0})
    store = ResultStore(tmp_path / "matthews.jsonl")
    for result in accuracies.results:
        value = {"matthews": 0.25 if result["size"] == "2x64" else 0.5} if "bits" in result else {}
        more = {
            "metric": "matthews",
            "higher_is_better": True,
            "linear_matthews": 0.6,
            "majority_matthews": 0,
        }
        names = {"tuning_matthews": value["matthews"], **value, **more} if value else {}
        store.add({**result, **names})
    text = " ".join(headline(store))
    assert "Up to 2 kB: 2x128 at 32 bits, 0 % pruned, matthews 0.5000; against 2x64" in text
    assert "against 2x64 at 32 bits, 0 % pruned, 0.2500: accuracy +0.0000" in text, "one seed tells no error"
    assert "The bag of words, 0.6000, is at least as good as every model here." in text


def test_a_result_has_the_values_of_its_metric() -> None:
    line = {"stage": "finetune", "size": "2x64", "name": "a", "seed": "seed1", "steps": 4}
    line |= {"training_seconds": 1.0, "loss": 0.5, "accuracy": 0.9}
    check_result(line)
    check_result({**line, "metric": "matthews", "higher_is_better": True, "matthews": -0.1})
    with pytest.raises(ValueError, match="matthews"):
        check_result({**line, "metric": "matthews", "higher_is_better": True})
    with pytest.raises(ValueError, match="accuracy"):
        check_result({**line, "accuracy": "high"})


def test_the_headline_claims_no_more_than_it_knows(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    above = " ".join(headline(store_of(tmp_path / "a", {"2x64": 120.0, "2x128": 100.0})))
    assert "not resolved" in above
    assert "ahead" not in above
    assert "bag of words" not in above, "0.75 is above it"
    below = " ".join(headline(store_of(tmp_path / "b", {"2x64": 120.0, "2x128": 80.0}, linear=0.8)))
    assert "The bag of words, 0.8000, is at least as good as every model here." in below
    assert "2x128 is ahead" in below
    assert "Sizes are not resolved" not in below
    assert "+0.0000 +- 0.0000 (examples, p = 1), so no difference is seen" in below
    assert "One seed each" in below
