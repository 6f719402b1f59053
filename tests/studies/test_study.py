"""A whole study of two tiny sizes: train, finetune, compress, compare; killed and resumed."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.builders import write_tables
from tests.studies.untrained import COMBINATION
from tlc_jax import compress, evaluate, study, train
from tlc_jax.core.errors import UserError
from tlc_jax.studies.item_store import ItemStore, unpack_scores
from tlc_jax.studies.items import items_of
from tlc_jax.studies.study_record import read_config

pytestmark = pytest.mark.slow

CONFIG = """
from tlc_jax.config import *
from tlc_jax.config.study_options import SearchConfig, StudyConfig

model = ModelConfig(head_size=8, vocab_size=300, max_positions=32)

def get_config():
    return StudyConfig(
        train=Config(
            model=model,
            data=DataConfig(dir={corpus!r}, sequence_length=32, held_out=0.1, cache_dir={cache!r}),
            schedule=ScheduleConfig(follows="training_seconds", local_attention_tokens=2000),
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
RUN = f"2x16/seed0/{COMBINATION}-seed2"


def finished_items(workdir: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted((workdir / "items").rglob("*.json"))}


@pytest.fixture(scope="module")
def finished(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study that was killed while it compressed the first size, in processes with one device each."""
    root = tmp_path_factory.mktemp("study")
    tables, workdir = write_tables(root / "tables", 120), root / "one"
    document = root / "tiny.py"
    document.write_text(CONFIG.format(corpus=str(corpus), tables=str(tables), cache=str(root / "cache")))
    flags = os.environ["XLA_FLAGS"].replace("device_count=8", "device_count=1")
    environment = {**os.environ, "XLA_FLAGS": flags}
    command = [sys.executable, "-m", "tlc_jax.study", "--config", str(document), "--workdir", str(workdir)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None and len(finished_items(workdir)) < 4:
            time.sleep(0.02)
        process.kill()
    before = finished_items(workdir)
    assert 4 <= len(before) < 11, "it was killed in the middle of the first size's compression"
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)
    after = finished_items(workdir)
    assert {name: after[name] for name in before} == before
    return workdir


def test_nothing_is_done_twice_and_nothing_is_missing(finished: Path) -> None:
    config = read_config(finished)
    assert config is not None
    results = {result["item"]: result for result in ItemStore(finished).results()}
    assert set(results) == {item.name for item in items_of(config)}
    done = [
        tuple(result["fields"][name] for name in ("size", "finetuning_seed", "sparsity", "bits"))
        for result in results.values()
        if result["stage"] == "compress"
    ]
    assert sorted(done) == sorted(itertools.product(("1x16", "2x16"), (1, 2), (0.0, 0.5), (32, 4)))
    starts = json.loads((finished / "runs" / RUN / "environment.json").read_text())["starts"]
    assert len(starts) == 1, "a finished run is not started again"
    assert (finished / "study.png").read_bytes().startswith(b"\x89PNG")
    assert "<title>one</title>" in (finished / "study.html").read_text(encoding="utf-8")


def test_numbers_are_those_of_the_runs(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """The uncompressed model of a size is what `evaluate` says of its finetuned run, example by example."""
    store, lines = ItemStore(finished), tmp_path / "new" / "predictions.jsonl"
    run = finished / "runs" / RUN
    evaluate.main(["--checkpoint", str(run), "--json", "--predictions", str(lines)])
    evaluated = json.loads(capsys.readouterr().out)
    dense = f"{RUN}/32bits-0pruned"
    [tuned] = [r for r in store.rows(item=RUN, metric="accuracy", set="tuning") if r["last"]]
    rows = {(row["set"], row["metric"]): row for row in store.rows(item=dense)}
    assert rows["tuning", "accuracy"]["value"] == tuned["value"] == evaluated["eval/tuning/accuracy"]
    for (name, metric), row in rows.items():  # which were computed on another number of devices
        assert row["value"] == pytest.approx(evaluated[f"eval/{name}/{metric}"], rel=1e-6)
    assert rows["test", "accuracy"]["role"] == "reported"
    assert evaluated["step"] == rows["test", "accuracy"]["step"] == 4
    predicted = [json.loads(line) for line in lines.read_text().splitlines()]
    of_set = [line for line in predicted if line["set"] == "test"]
    [(name, packed)] = store.result(dense)["examples"].items()
    assert name == "test", "those that are tested; those of the tuning set choose by their mean"
    scores, weights = unpack_scores(packed)
    assert scores.tolist() == [float(line["predicted"] == line["label"]) for line in of_set]
    assert weights.tolist() == [1.0] * len(of_set)
    right = sum(line["linear"] == line["label"] for line in of_set)
    assert rows["test", "linear_accuracy"]["value"] == pytest.approx(right / len(of_set))
    assert rows["test", "accuracy"]["paper_bytes"] == 4 * rows["test", "accuracy"]["parameters"]
    half = store.rows(item=f"{RUN}/4bits-50pruned", set="test", metric="accuracy")[0]
    assert half["paper_bytes"] == half["nonzeros"] / 2
    assert 0.45 < half["nonzeros"] / half["parameters"] < 0.6


@pytest.mark.parametrize(("bits", "sparsity"), [(32, 0.5), (4, 0.5), (4, 0.0)])
def test_a_row_is_what_compress_writes(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture, bits: int, sparsity: float
) -> None:
    """Metrics and all three sizes, bit for bit, of the same recipe."""
    rows = ItemStore(finished).rows(item=f"{RUN}/{bits}bits-{100 * sparsity:g}pruned")
    out = tmp_path / "out"
    options = ["--bits", str(bits), "--sparsity", str(sparsity), "--out", str(out)]
    compress.main(["--checkpoint", str(finished / "runs" / RUN), *options])
    sizes = json.loads((out / "manifest.json").read_text())["size"]
    compressed = [row for row in rows if "role" in row]
    assert {row["set"] for row in compressed} == {"tuning", "test"}
    for row in compressed:
        assert (row["paper_bytes"], row["format_bytes"]) == (sizes["paper_bytes"], sizes["format_bytes"])
        assert row["file_bytes"] == (out / "model.safetensors").stat().st_size
        assert (row["parameters"], row["nonzeros"]) == (sizes["weights"], sizes["nonzeros"])
    tables = json.loads((finished / "study.json").read_text())["finetune"]["data"]["dir"]
    capsys.readouterr()
    evaluate.main(["--checkpoint", str(out), "--json", "--data.dir", tables])
    evaluated = json.loads(capsys.readouterr().out)
    for row in rows:
        value = evaluated[f"eval/{row['set']}/{row['metric']}"]
        assert row["value"] == pytest.approx(value, rel=0 if row["metric"] == "accuracy" else 1e-6)


def test_evaluations_of_a_training_are_rows(finished: Path) -> None:
    """With FLOPs that grow with the steps, tokens, and seconds of the clock."""
    rows = ItemStore(finished).rows(stage="train", size="2x16", metric="nats_per_byte")
    steps = [row["step"] for row in rows]
    assert steps == sorted(set(steps))
    assert [row["last"] for row in rows] == [False] * (len(rows) - 1) + [True]
    [flops] = {row["flops"] / row["step"] for row in rows if row["step"]}
    # 6 x the weights of matrices x tokens at least, without attention, embeddings and what is recomputed
    assert flops > 6 * (2 * 12 * 16 * 16) * 16 * 32
    assert 0.5 <= rows[-1]["training_seconds"] < 5


def test_the_device_and_the_commit_are_kept_and_no_path_of_the_machine(finished: Path) -> None:
    for result in ItemStore(finished).results():
        assert {"commit", "date", "device", "python", "packages"} == set(result["made"])


def test_model_and_tokenizer_come_from_the_run(finished: Path, tmp_path: Path) -> None:
    workdir = tmp_path / "w"
    options = ["--config", "finetune_sst2", "--workdir", str(workdir)]
    source = ["--init-from", str(finished / "runs" / "2x16" / "seed0" / "trained")]
    with pytest.raises(UserError, match=r"no --model\.\*"):
        train.main([*options, *source, "--model.num-layers", "3"])
    with pytest.raises(UserError, match="32 positions"):
        train.main([*options, *source])
    assert not workdir.exists()


def test_a_finished_study_is_shown_again_without_its_runs(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    copy = tmp_path / "copy"
    (copy / "items").parent.mkdir()
    for name in ("study.json", "data.json"):
        (copy / name).write_bytes((finished / name).read_bytes())
    for name, content in finished_items(finished).items():
        path = copy / Path(name).relative_to(finished)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    study.main(["--workdir", str(copy)])
    printed = capsys.readouterr().out
    assert "22 of 22 items are finished" in printed
    assert "Tests are corrected for" in printed
    assert not (copy / "runs").exists()
