"""The folder of a study: resumed by itself, made larger, and refused what is another study."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import pytest

from tests.studies.untrained import COMBINATION, FIRST, SECOND, Folder
from tlc_jax import study, train
from tlc_jax.config.study_options import StudyConfig
from tlc_jax.core.errors import UserError
from tlc_jax.storage.run_directory import write_json
from tlc_jax.studies import study_record
from tlc_jax.studies.items import items_of
from tlc_jax.studies.same_data import SameData
from tlc_jax.studies.study_record import open_folder_of, read_config


def test_a_study_may_grow(folder: Folder, capsys: pytest.CaptureFixture) -> None:
    """With new sizes, seeds, bits and sparsities. What is finished stays as it is."""
    folder.go()
    before = folder.files()
    capsys.readouterr()
    assert folder.go("", "--bits", "8") == []
    assert "22 of 30 items are finished" in capsys.readouterr().out
    assert folder.measured == [(8, 0.0), (8, 0.5)] * 4
    assert folder.resume("--sparsities", "0.25") == []
    assert folder.measured == [(32, 0.25), (4, 0.25), (8, 0.25)] * 4
    runs = ["trained", f"{COMBINATION}-seed1", f"{COMBINATION}-seed2"]
    assert folder.go("", "--sizes", "3x16") == [f"3x16/seed0/{run}" for run in runs]
    assert folder.measured == [(bits, share) for share in (0.0, 0.5, 0.25) for bits in (32, 4, 8)] * 2
    after = folder.files()
    assert {name: after[name] for name in before} == before, "nothing is done again"
    config = read_config(folder.workdir)
    assert isinstance(config, StudyConfig)
    assert (config.sizes, config.bits) == (("1x16", "2x16", "3x16"), (32, 4, 8))
    assert set(after) == {f"{item.name}.json" for item in items_of(config)}


@pytest.mark.slow
def test_seeds_are_added_to_the_one_that_the_study_had(folder: Folder) -> None:
    folder.go()
    assert {name.split("/")[1] for name in folder.go("", "--seeds", "4", "5")} == {"seed4", "seed5"}
    config = read_config(folder.workdir)
    assert config is not None
    assert config.seeds == (0, 4, 5)
    assert folder.configs["1x16/seed4/trained"].seed == 4
    variant = "batch_size=8"
    trained = folder.go("", "--variants", variant)
    assert {name.split("/")[0] for name in trained} == {f"1x16,{variant}", f"2x16,{variant}"}
    assert len(trained) == 2 * 3 * 3
    assert folder.configs[f"2x16,{variant}/seed5/trained"].batch_size == 8
    assert folder.go() == []


def test_a_study_whose_sizes_do_not_fit_is_refused(untrained: Folder) -> None:
    with pytest.raises(UserError, match="holds a study of another config: .*head_size 32"):
        untrained.go("", "--train.model.head-size", "32", "--sizes", "2x32")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--train.seed 3", "train.seed is 3 but the study has 0"),
        ("--train.budget.training-seconds 2", "train.budget.training_seconds is 2.0 but the study has 1"),
        ("--finetune.batch-size 8", "finetune.batch_size is 8 but the study has 16"),
        ("--search.seeds 1 2 3", r"search.seeds is .* but the study has"),
        ("--rate-scaling sqrt_width", "rate_scaling is 'sqrt_width' but the study has 'none'"),
        ("--counted-in steps", "counted_in is 'steps' but the study has 'training_seconds'"),
        ("--compression.granularity row", "compression.granularity is 'row' but"),
    ],
)
def test_another_study_is_refused_by_its_field(untrained: Folder, options: str, words: str) -> None:
    before = (untrained.workdir / "study.json").read_bytes()
    with pytest.raises(UserError, match=f"holds a study of another config: {words}") as refused:
        untrained.go("", *options.split())
    assert "study --workdir" in str(refused.value)
    with pytest.raises(UserError, match=words):
        untrained.resume(*options.split())
    assert (untrained.workdir / "study.json").read_bytes() == before
    assert untrained.trained == []


@pytest.fixture
def untrained(folder: Folder) -> Folder:
    """A study that was interrupted before its first run."""
    folder.go(FIRST)
    return folder


def test_a_study_without_finetuning_is_another(untrained: Folder) -> None:
    text = untrained.document.read_text(encoding="utf-8")
    untrained.document.write_text(text.replace("finetune=finetune,", ""), encoding="utf-8")
    with pytest.raises(UserError, match="another config: finetune"):
        untrained.go()


def test_a_study_is_resumed_with_the_same_data_however_their_path_is_written(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.go(f"{SECOND}trained")
    assert len(folder.resume()) == 3
    assert folder.resume() == []
    shutil.copytree(folder.root / "text", folder.root / "copy")
    monkeypatch.chdir(folder.root)
    for spelling in ("text", "./text/", "copy", str(folder.root / "copy/")):
        assert folder.go("", "--train.data.dir", spelling) == []
    (folder.root / "copy" / "b.txt").write_text("One more.\n\nAnd another one.\n")
    with pytest.raises(UserError, match=r"another config: train.data.dir is 'copy' but the study"):
        folder.go("", "--train.data.dir", "copy")


def test_without_a_study_the_message_says_what_to_give(folder: Folder, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(UserError, match=r"study holds no study to resume: .* --config quickstart_study"):
        folder.resume()
    with pytest.raises(UserError, match=r"data.dir names .*none, which does not exist"):
        folder.go("", "--finetune.data.dir", str(folder.root / "none"))
    (folder.root / "empty").mkdir()
    with pytest.raises(UserError, match="empty, which has no file of"):
        folder.go("", "--train.data.dir", str(folder.root / "empty"))
    for part in ("train", "finetune"):
        with pytest.raises(UserError, match=f"data.dir is not set: give --{part}.data.dir"):
            folder.go("", f"--{part}.data.dir", "None")
    with pytest.raises(UserError, match="--workers must be at least 1, not 0"):
        folder.go("", "--workers", "0")
    assert not folder.workdir.exists()
    run, other, full = (folder.root / name for name in ("run", "other", "full"))
    for path in (run / "config.json", other / "study.json", full / "notes.txt"):
        path.parent.mkdir()
        path.write_text("{}")
    arguments = ["--config", str(folder.document), "--workdir"]
    with pytest.raises(UserError, match=r"holds a run: python -m tlc_jax.train --workdir .*/run resumes it"):
        study.main([*arguments, str(run)])
    with pytest.raises(UserError, match="full is not empty and holds no study: give a new folder"):
        study.main([*arguments, str(full)])
    with pytest.raises(UserError, match=r"not empty and holds no study"):
        study.main([*arguments, str(full / "notes.txt")])
    with pytest.raises(UserError, match=r"holds a study: python -m tlc_jax.study --workdir .*/other resumes"):
        train.main(["--workdir", str(other)])
    assert capsys.readouterr().out == ""


def test_a_study_of_an_earlier_version_is_refused(untrained: Folder) -> None:
    (untrained.workdir / "results.jsonl").write_text("{}\n")
    for begin in (untrained.go, untrained.resume):
        with pytest.raises(UserError, match="study of an earlier version, which kept its results in results"):
            begin()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("study.json", "{", "study.json is not the config of a study"),
        ("study.json", "[1]", "study.json .*StudyConfig must be an object"),
        ("study.json", "\xff", "study.json .*utf-8"),
        ("study.json", '{"sizes": []}', "study.json is not the config of a study .*missing keys"),
        ("data.json", "{", "data.json cannot be used"),
        ("data.json", '{"train": {}}', "data.json cannot be used .*train/identity"),
        (f"runs/{FIRST}trained/data/manifest.json", "{}", "trained/data is not the prepared data of a run"),
        (f"items/{FIRST}trained.json", "{}", "trained.json is not the result that the study wrote"),
    ],
)
def test_damaged_files_of_a_study_are_named(stopped: Folder, name: str, content: str, words: str) -> None:
    (stopped.workdir / name).unlink()  # it may be linked with that in the cache
    (stopped.workdir / name).write_bytes(content.encode("latin-1"))
    with pytest.raises(UserError, match=words):
        stopped.go()


@pytest.fixture
def stopped(folder: Folder) -> Folder:
    """A study of which one run is finished."""
    folder.go(f"{FIRST}lr")
    return folder


@pytest.mark.slow
def test_a_study_with_further_steps_is_resumed_and_refused_others(folder: Folder) -> None:
    plain = folder.document.read_text(encoding="utf-8")

    def with_steps(steps: str) -> None:
        text = plain.replace("bits=(32, 4)", f"bits=(32, 4), compression=CompressConfig(steps=({steps}))")
        imports = "from tlc_jax.compression.methods import KeepUnits, PruneMagnitude\n"
        folder.document.write_text(imports + text, encoding="utf-8")

    with_steps("KeepUnits(heads=1), PruneMagnitude(0.25)")
    folder.go(f"{SECOND}lr")
    assert len(folder.resume()) == 2
    assert folder.go() == folder.resume() == []
    for others in ("KeepUnits(heads=1), PruneMagnitude(0.5)", "PruneMagnitude(0.25), KeepUnits(heads=1)", ""):
        with_steps(others)
        with pytest.raises(UserError, match=r"study of another config: compression.steps is .* but the stu"):
            folder.go()


def test_values_that_two_processes_add_at_once_are_both_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While one is about to write the config with more sizes, another asks for more seeds."""
    config = StudyConfig(sizes=("1x64",), seeds=(0,))
    same_data = SameData(tmp_path / "data.json")

    def add(**more: Any) -> StudyConfig:
        return open_folder_of(dataclasses.replace(config, **more), tmp_path / "study", same_data)

    add()
    others: list[Future[StudyConfig]] = []

    def slow_write(path: Path, value: object) -> None:
        if not others:
            others.append(pool.submit(add, seeds=(7,)))
            wait(others, timeout=0.5)
        write_json(path, value)

    monkeypatch.setattr(study_record, "write_json", slow_write)
    with ThreadPoolExecutor() as pool:
        assert add(sizes=("2x64",)).sizes == ("1x64", "2x64")
    assert others[0].result().seeds == (0, 7)
    recorded = read_config(tmp_path / "study")
    assert recorded is not None
    assert (recorded.sizes, recorded.seeds) == (("1x64", "2x64"), (0, 7))


BEGIN = """
import multiprocessing, sys
from pathlib import Path
from tlc_jax.config.study_options import StudyConfig
from tlc_jax.studies.same_data import SameData
from tlc_jax.studies.study_record import open_folder_of

processes = multiprocessing.get_context("fork")
together = processes.Barrier(4)

def begin(number):
    for folder in range(40):
        workdir = Path(sys.argv[1]) / str(folder)
        together.wait(60)
        config = StudyConfig(bits=(8, 4), seeds=(number,) if folder % 2 else ())
        open_folder_of(config, workdir, SameData(workdir / "data.json"))

started = [processes.Process(target=begin, args=(number,)) for number in range(4)]
for process in started:
    process.start()
for process in started:
    process.join()
sys.exit(sum(process.exitcode != 0 for process in started))
"""


@pytest.mark.slow
def test_processes_that_begin_a_study_at_once_share_it(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", BEGIN, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    for folder in range(40):
        config = read_config(tmp_path / str(folder))
        assert config is not None
        assert config.bits == (8, 4)
        assert set(config.seeds) == (set(range(4)) if folder % 2 else set()), "no value is lost"
