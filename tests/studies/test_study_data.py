"""What a study rests on: one and the same data for all sizes, results that nobody has changed, its own runs.

Training is left out: a run takes its data and writes the metrics of one."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.studies.untrained import Folder
from tlc_jax import study, train
from tlc_jax.config import Config, DataConfig
from tlc_jax.core.errors import UserError
from tlc_jax.data.text import installed_docs
from tlc_jax.studies import grid
from tlc_jax.studies.same_data import SameData
from tlc_jax.tasks.mlm import MlmKind


def change_table(folder: Folder) -> None:
    path = folder.root / "tables" / "train.tsv"
    header, rest = path.read_text(encoding="utf-8").split("\n", 1)
    path.write_text(f"{header}\nchanged {rest}", encoding="utf-8")


def change_text(folder: Folder) -> None:
    with (folder.root / "text" / "a.txt").open("a", encoding="utf-8") as file:
        file.write("\n\nOne document more.\n")


@pytest.mark.slow
def test_a_study_goes_on_with_the_data_that_it_began_with(folder: Folder) -> None:
    first = folder.go("2x16/pretrained")
    assert [name.split("/")[0] for name in first] == ["1x16"] * 3
    second = folder.go()
    assert [name.split("/")[0] for name in second] == ["2x16"] * 3
    assert folder.go() == []
    lines = folder.lines()
    assert [line["stage"] for line in lines].count("compress") == 2 * 2 * 4
    identities = {json.dumps(line["data"].get("finetune")) for line in lines if line["stage"] != "pretrain"}
    assert len(identities) == 1
    manifest = json.loads((folder.run_of("2x16") / "data" / "manifest.json").read_text(encoding="utf-8"))
    assert lines[1]["data"]["finetune"]["identity"] == manifest["identity"]
    assert len({json.dumps(line["data"]["pretrain"]) for line in lines}) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stop", "change", "words"),
    [
        (
            "2x16/pretrained",
            change_table,
            r"finetuning data .*tables.* have changed since .*: changed content: t",
        ),
        ("2x16/lr", change_table, "finetuning data .* changed content: train.tsv. Restore"),
        ("1x16/lr1e-05-batch32-dropout0.1-seed2", change_table, "finetuning data .* changed content: train"),
        ("2x16/pretrained", change_text, "pretraining data .*text.* changed content: a.txt"),
        (
            "2x16/pretrained",
            lambda folder: (folder.root / "text" / "b.txt").write_text("More.\n\nText.\n", encoding="utf-8"),
            "pretraining data .* new: b.txt",
        ),
        (
            "2x16/pretrained",
            lambda folder: (folder.root / "text" / "a.txt").rename(folder.root / "text" / "c.txt"),
            "pretraining data .* missing: a.txt; new: c.txt",
        ),
    ],
)
def test_changed_data_are_refused_before_anything_is_trained(
    folder: Folder, stop: str, change: Callable[[Folder], object], words: str
) -> None:
    if "seed2" in stop:
        stop = "seed2"
    folder.go(stop)
    before = folder.lines()
    kept = {name: (folder.root / name).with_name(f"{name}.kept") for name in ("text", "tables")}
    for name, copy in kept.items():
        shutil.copytree(folder.root / name, copy)
    change(folder)
    with pytest.raises(UserError, match=words):
        folder.go()
    assert folder.trained == []
    assert folder.lines() == before
    for name, copy in kept.items():  # what the message says is what helps
        shutil.rmtree(folder.root / name)
        copy.rename(folder.root / name)
    assert folder.go()


@pytest.mark.slow
def test_what_no_run_reads_again_may_change(folder: Folder) -> None:
    folder.go("1x16/lr")  # pretrained, not finetuned
    change_table(folder)
    folder.go("2x16/lr")
    change_text(folder)  # both sizes are pretrained
    folder.go()
    change_table(folder)
    assert folder.go() == []


def test_data_that_change_while_a_study_runs_are_noticed(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train_run(config: Config, workdir: Path, *arguments: Any, **options: Any) -> None:
        folder.train_run(config, workdir, *arguments, **options)
        if workdir.name.endswith("seed1"):
            change_table(folder)

    monkeypatch.setattr(grid, "train_run", train_run)
    with pytest.raises(UserError, match="changed content: train.tsv"):
        folder.go()
    assert len(folder.trained) == 2


@pytest.mark.slow
def test_results_of_earlier_versions_take_their_identities_from_their_runs(folder: Folder) -> None:
    folder.go("2x16/pretrained")
    complete = folder.lines()
    folder.forget()
    folder.go("2x16/pretrained")  # nothing is left to do before that
    assert folder.trained == []
    assert [line["data"]["finetune"] for line in folder.lines()[1:]] == [
        line["data"]["finetune"] for line in complete[1:]
    ]
    folder.forget()
    change_table(folder)  # of which nobody can tell
    folder.go()
    assert len({json.dumps(line["data"].get("finetune")) for line in folder.lines()}) == 2, "one, or None"


def test_where_nothing_is_left_to_take_over_the_data_are_prepared_and_compared(folder: Folder) -> None:
    folder.go("2x16/pretrained")
    for run in (folder.workdir / "1x16").glob("lr*"):
        shutil.rmtree(run)
    (folder.workdir / "data.json").unlink()
    change_table(folder)
    with pytest.raises(UserError, match="finetuning data .* are prepared as [0-9a-f]{16}, but .* line 2 was"):
        folder.go()
    assert folder.trained == [], "before the second size is pretrained"


@pytest.mark.slow
def test_a_complete_study_of_an_earlier_version_is_shown_without_its_runs(
    folder: Folder, capsys: pytest.CaptureFixture
) -> None:
    folder.go()
    folder.forget()
    for size in ("1x16", "2x16"):
        shutil.rmtree(folder.workdir / size)
    capsys.readouterr()
    assert folder.go() == []
    printed = capsys.readouterr().out
    assert "results.jsonl line 1 does not name its data, and its run no longer exists" in printed


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
def test_a_run_of_other_data_in_the_place_of_its_own(folder: Folder, stage: str, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = Folder(tmp_path / "other")
    (change_text if stage == "pretrain" else change_table)(other)
    folder.go("2x16/lr")
    workdir, folder.workdir, folder.root = folder.workdir, other.workdir, other.root
    folder.go("2x16/lr")
    folder.workdir, folder.root = workdir, tmp_path
    [mine] = (workdir / "1x16").glob("pretrained" if stage == "pretrain" else "lr*-seed1")
    shutil.rmtree(mine)
    shutil.copytree(other.workdir / "1x16" / mine.name, mine)
    with pytest.raises(UserError, match="were made with different"):
        folder.go()
    assert folder.trained == []


def test_another_run_of_the_same_data_in_the_place_of_its_own(folder: Folder) -> None:
    folder.go("2x16/lr")
    shutil.rmtree(folder.workdir / "2x16" / "pretrained")
    shutil.copytree(folder.workdir / "1x16" / "pretrained", folder.workdir / "2x16" / "pretrained")
    with pytest.raises(UserError, match=r"2x16/pretrained is not the run of .*its training_seconds"):
        folder.go()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda lines: lines[2].update(accuracy=0.6), "line 3 .* was changed: its sha256"),
        (lambda lines: lines[0]["perplexity"].__setitem__(0, 8.0), "line 1 .* was changed"),
        (lambda lines: lines[0]["data"]["pretrain"].update(identity="0" * 64), "line 1 .* was changed"),
        (lambda lines: lines[1].pop("sha256"), "line 2 .*has no sha256, although earlier lines"),
        (lambda lines: lines.append(lines[1]), "line 12 repeats the result of .*line 2"),
        (lambda lines: lines.insert(0, {"stage": "x"}), "line 1 .*stage is none of"),
    ],
)
def test_lines_that_somebody_changed(folder: Folder, change: Callable, words: str) -> None:
    folder.go("2x16/pretrained")
    folder.write(change)
    with pytest.raises(UserError, match=words):
        folder.go()


def edit(number: int, change: Callable[[bytes], bytes]) -> Callable[[Folder], None]:
    def edited(folder: Folder) -> None:
        path = folder.workdir / "results.jsonl"
        lines = path.read_bytes().split(b"\n")
        lines[number - 1] = change(lines[number - 1])
        path.write_bytes(b"\n".join(lines))

    return edited


@pytest.mark.slow
@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (edit(2, lambda line: b"garbage"), "line 2 cannot be used .*Expecting value"),
        (edit(2, lambda line: line.replace(b"seed1", b"seed\xff")), "line 2 cannot be used .*utf-8"),
        (edit(1, lambda line: line.replace(b"9.0", b"NaN")), "line 1 cannot be used .*NaN is no number"),
        (edit(1, lambda line: line.replace(b"9.0", b"1e999")), "line 1 cannot be used"),
        (edit(3, lambda line: b"[" * 100_000), "line 3 cannot be used .*nested too deeply"),
        (edit(3, lambda line: b""), "line 3 cannot be used"),
        (edit(3, lambda line: b"7"), "line 3 cannot be used .*not a JSON object"),
        (
            lambda folder: (folder.workdir / "results.jsonl").write_bytes(gzip.compress(b"x") + b"\n"),
            "line 1 cannot be used",
        ),
        (
            lambda folder: (folder.workdir / "study.json").write_bytes(b"{"),
            "study.json is not the config of a study",
        ),
        (
            lambda folder: (folder.workdir / "study.json").write_bytes(b"[1]"),
            "study.json .*StudyConfig must be an object",
        ),
        (lambda folder: (folder.workdir / "study.json").write_bytes(b"\xff"), "study.json .*utf-8"),
        (
            lambda folder: (folder.workdir / "study.json").write_text('{"sizes": []}'),
            "is not the config of a study",
        ),
        (lambda folder: (folder.workdir / "data.json").write_bytes(b"{"), "data.json cannot be used"),
        (
            lambda folder: (folder.workdir / "1x16" / "pretrained" / "data" / "manifest.json").write_text(
                "{}"
            ),
            "1x16/pretrained/data is not the prepared data of a run",
        ),
        (
            lambda folder: (folder.workdir / "1x16" / "pretrained" / "metrics.jsonl").write_text(""),
            "lacks the evaluations of a finished run",
        ),
    ],
)
def test_damaged_files_of_a_study(folder: Folder, damage: Callable[[Folder], None], words: str) -> None:
    folder.go("2x16/pretrained")
    damage(folder)
    with pytest.raises(UserError, match=words):
        folder.go()
    assert folder.trained == []


def test_a_torn_last_line_is_computed_again(folder: Folder) -> None:
    folder.go("2x16/pretrained")
    path = folder.workdir / "results.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-7])
    folder.go("2x16/pretrained")
    assert path.read_bytes() == whole


def test_results_without_their_runs_still_hold_their_data(folder: Folder) -> None:
    """Who has removed the runs of a size that is done can go on, and is refused other data all the same."""
    folder.go("2x16/pretrained")
    shutil.rmtree(folder.workdir / "1x16")
    (folder.workdir / "data.json").unlink()
    change_text(folder)
    with pytest.raises(UserError, match="pretraining data .* are prepared as .* but .*line 1 was made"):
        folder.go()
    assert folder.trained == []


@pytest.mark.slow
def test_a_study_is_resumed_by_its_folder_alone_with_the_same_data_however_they_are_spelt(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.go("2x16/pretrained")
    assert len(folder.go_on()) == 3
    assert folder.go_on() == []
    shutil.copytree(folder.root / "text", folder.root / "copy")
    monkeypatch.chdir(folder.root)
    for spelling in ("text", "./text/", "copy", str(folder.root / "copy/")):
        assert folder.go("", "--pretrain.data.dir", spelling) == []
    (folder.root / "copy" / "b.txt").write_text("One more.\n\nAnd another one.\n")
    with pytest.raises(UserError, match=r"another config: pretrain.data.dir is 'copy' but the study"):
        folder.go("", "--pretrain.data.dir", "copy")
    with pytest.raises(UserError, match=r"bits is .* new folder, or .* tlc_jax.study --workdir .*/study$"):
        folder.go_on("--bits", "32")


def test_without_a_study_it_is_said_what_to_give(folder: Folder, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(UserError, match=r"study holds no study to resume: .* --config quickstart_study"):
        folder.go_on()
    with pytest.raises(UserError, match=r"data.dir names .*none, which does not exist"):
        folder.go("", "--finetune.data.dir", str(folder.root / "none"))
    run, other = folder.root / "run", folder.root / "other"
    for path in (run / "config.json", other / "study.json"):
        path.parent.mkdir()
        path.write_text("{}")
    with pytest.raises(UserError, match=r"holds a run: python -m tlc_jax.train --workdir .*/run resumes it"):
        study.main(["--config", str(folder.root / "tiny.py"), "--workdir", str(run)])
    with pytest.raises(UserError, match=r"holds a study: python -m tlc_jax.study --workdir .*/other resumes"):
        train.main(["--workdir", str(other)])
    assert capsys.readouterr().out == ""


@pytest.mark.slow
def test_a_study_of_another_config_is_refused_field_by_field(folder: Folder) -> None:
    folder.go()
    with pytest.raises(UserError, match=r"study of another config: pretrain.seed is 3 but the study has 0"):
        folder.go("", "--pretrain.seed", "3")


@pytest.mark.slow
def test_a_study_with_further_steps_is_resumed_and_refused_others(folder: Folder) -> None:
    path = folder.root / "tiny.py"
    plain = path.read_text(encoding="utf-8")

    def with_steps(steps: str) -> None:
        compression = f"compression=CompressConfig(steps=({steps}))"
        text = plain.replace("bits=(32, 4)", f"bits=(32, 4), {compression}")
        imports = "from tlc_jax.compression.methods import KeepUnits, PruneMagnitude\n"
        path.write_text(imports + text, encoding="utf-8")

    with_steps("KeepUnits(heads=1), PruneMagnitude(0.25)")
    folder.go("2x16/lr")
    assert len(folder.go_on()) == 2
    assert folder.go() == folder.go_on() == []
    for others in ("KeepUnits(heads=1), PruneMagnitude(0.5)", "PruneMagnitude(0.25), KeepUnits(heads=1)", ""):
        with_steps(others)
        with pytest.raises(UserError, match=r"study of another config: compression.steps is .* but the stu"):
            folder.go()


@pytest.mark.slow
def test_a_study_of_a_version_that_did_not_measure_what_compress_writes(folder: Folder) -> None:
    """Its quantizer had zero 'float': with that it is resumed, and without it is refused. It also has the old
    name of a field."""
    folder.go("2x16/lr")
    path = folder.workdir / "study.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    del record["compression"]
    for stage in ("pretrain", "finetune"):
        record[stage]["evaluation"]["stop_at_accuracy"] = record[stage]["evaluation"].pop("stop_at")
    path.write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(UserError, match="compression.zero is 'nudged' but the study has 'float'"):
        folder.go()
    assert len(folder.go("", "--compression.zero", "float")) == 2


def test_upgraded_packages_are_other_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of data that are made of the documentation that is installed here."""
    module = tmp_path / "numpy.py"
    module.write_text('"""Version 1."""', encoding="utf-8")
    modules = [("numpy/a.py", module), ("numpy/b.py", module)]
    monkeypatch.setattr(installed_docs, "package_modules", lambda root: iter(modules))
    config, console = Config(data=DataConfig(name="docs")), Console(quiet=True)
    same_data = SameData(tmp_path / "data.json")
    identity = {"identity": "1" * 64, "tokenizer": "2" * 64}

    class Prepared:
        manifest = identity

    monkeypatch.setattr(MlmKind, "prepare", lambda kind, config, console: Prepared)
    same_data.prepare("pretrain", config, None, console)
    same_data.meet("st/2x64/pretrained", {"pretrain": identity})  # type: ignore[dict-item]
    same_data.check_sources("pretrain", config)
    again = SameData(tmp_path / "data.json")
    again.meet("st/2x64/pretrained", {"pretrain": identity})  # type: ignore[dict-item]
    module.write_text('"""Version 2."""', encoding="utf-8")
    words = (
        "pretraining data .documentation of .* have changed since st/2x64/pretrained .*: numpy/a.py, numpy/b"
    )
    with pytest.raises(UserError, match=words):
        again.check_sources("pretrain", config)
