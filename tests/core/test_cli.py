"""Command lines and config documents: typed, with one clear message for each mistake."""

from __future__ import annotations

from pathlib import Path

import pytest

from tlc_jax.bench import StepTime
from tlc_jax.compress import Compress
from tlc_jax.config import BudgetConfig, Config
from tlc_jax.core import cli
from tlc_jax.core.config_document import load_config
from tlc_jax.core.errors import UserError
from tlc_jax.diff import Diff
from tlc_jax.evaluate import Evaluate
from tlc_jax.study import Study
from tlc_jax.train import Train


def parse(*arguments: str) -> Train:
    return cli.parse(Train, ["--config", "quickstart", "--workdir", "w", *arguments])


def test_overrides_are_typed() -> None:
    settings = parse(
        "--model.num-layers", "7", "--optimizer.learning-rate", "1e-4", "--budget.steps", "9", "--seed", "3",
        "--micro-batch", "8", "--data.tokenizer", "t.json", "--checkpoint.every-steps", "None",
    ).settings  # fmt: skip
    assert settings.model.num_layers == 7
    assert settings.optimizer.learning_rate == 1e-4
    assert settings.budget == BudgetConfig(steps=9, training_seconds=120)
    assert (settings.seed, settings.micro_batch, settings.checkpoint.every_steps) == (3, 8, None)
    assert settings.data.tokenizer == "t.json"
    assert settings.model.hidden_size == load_config("quickstart", Config).model.hidden_size, (
        "the rest is the file's"
    )


def test_a_path_is_a_config_too(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("from tlc_jax.config import Config\ndef get_config():\n    return Config(batch_size=5)\n")
    assert load_config(str(path), Config).batch_size == 5


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--model.nmu-layers", "6"], ["--model.nmu-layers", "--model.num-layers"]),
        (["--optimizer.learning-rate", "fast"], ["--optimizer.learning-rate", "fast"]),
        (["--model.num-layers", "many"], ["--model.num-layers", "many"]),
        (["--schedule.follows", "epochs"], ["--schedule.follows", "training_seconds"]),
        (["--task.beam", "4"], ["--task.beam"]),
    ],
)
def test_mistakes_end_in_one_box(
    arguments: list[str], says: list[str], capsys: pytest.CaptureFixture
) -> None:
    with pytest.raises(SystemExit) as stop:
        parse(*arguments)
    assert stop.value.code == 2
    shown = capsys.readouterr()
    text = shown.err + shown.out
    assert text.count("For full helptext") == 1
    for piece in says:
        assert piece in text


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["--batch-size", "30", "--micro-batch", "7"], ["batch_size", "micro_batch"]),
        (["--data.sequence-length", "512"], ["data.sequence_length", "model.max_positions"]),
        (["--schedule.follows", "steps"], ["schedule.follows", "budget.steps"]),
        (["--model.hidden-size", "100"], ["model.hidden_size", "model.head_size"]),
        (["--data.dir", "x"], ["data.dir", "data.name"]),
    ],
)
def test_checks_of_two_fields_name_both(
    arguments: list[str], names: list[str], capsys: pytest.CaptureFixture
) -> None:
    with pytest.raises((UserError, SystemExit)) as stop:
        parse(*arguments)
    text = str(stop.value) + capsys.readouterr().err
    assert all(name in text for name in names), text
    assert isinstance(stop.value, UserError) or stop.value.code == 2


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("from tlc_jax.config import *\ndef get_config(): return Config(model=ModelConfig(num_layer=2))",
         "ModelConfig has no field num_layer; perhaps num_layers"),
        ("def get_config(): return 3", "returned int, not Config"),
        ("x = 1", "get_config"),
        ("import nothing_of_this_name", "nothing_of_this_name"),
    ],
)  # fmt: skip
def test_mistakes_in_a_document(tmp_path: Path, source: str, says: str) -> None:
    (tmp_path / "c.py").write_text(source)
    with pytest.raises(UserError, match=says):
        load_config(str(tmp_path / "c.py"), Config)


def test_an_unknown_name_lists_what_there_is() -> None:
    with pytest.raises(
        UserError,
        match="there are .*pretrain_small, .*quickstart, .*; perhaps quickstart",
    ):
        load_config("quikstart", Config)


@pytest.mark.parametrize(
    ("option", "perhaps"),
    [
        ("--optimizer.lr=1", "--optimizer.lr: perhaps --optimizer.learning-rate"),
        ("--opt.lr=1", "--opt.lr: perhaps --optimizer.learning-rate"),
        ("--lr=1", "--lr: perhaps --optimizer.learning-rate"),
        ("--bs=1", "--bs: perhaps --budget.steps or --batch-size"),
        ("--wd=1", "--wd: perhaps --optimizer.weight-decay"),
        ("--steps=1", "--steps: perhaps --budget.steps"),
        ("--seq-len=1", "--seq-len: perhaps --data.sequence-length"),
        ("--data.seq_len=1", "--data.seq_len: perhaps --data.sequence-length"),
    ],
)
def test_an_abbreviation_is_answered_with_the_option(option: str, perhaps: str) -> None:
    with pytest.raises(UserError, match=f"^there is no option {perhaps}$"):
        parse(option)


def test_underscores_negatives_and_values_are_no_abbreviations() -> None:
    args = parse("--batch_size", "16", "--no-dry-run", "--data.dir=--lr", "--data.name", "files")
    assert (args.settings.batch_size, args.dry_run, args.settings.data.dir) == (16, False, "--lr")


@pytest.mark.parametrize("given", [["w@last2", "--json"], ["--json", "--checkpoint", "w@last2"],
                                   ["--checkpoint=w@last2", "--json"]])  # fmt: skip
def test_an_argument_without_a_name_may_be_given_by_its_name(given: list[str]) -> None:
    assert cli.parse_plain(Evaluate, given) == Evaluate(checkpoint="w@last2", json=True)


def test_of_two_arguments_the_first_may_be_given_by_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    for given in (["a", "b"], ["--one", "a", "b"], ["b", "--one=a"]):
        assert cli.parse_plain(Diff, given) == Diff("a", "b")
    with pytest.raises(SystemExit):
        cli.parse_plain(Diff, ["a"])
    assert "RUN" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "document", "paste"),
    [
        (Train, "quickstart_study", "tlc_jax.study --config quickstart_study --workdir 'my runs'"),
        (Study, "quickstart", "tlc_jax.train --config quickstart --workdir 'my runs'"),
        (Compress, "quickstart", "tlc_jax.train --config quickstart --workdir 'my runs'"),
        (Train, "prune_2_4", "tlc_jax.compress RUN --config prune_2_4 --out DIR"),
        (StepTime, "study_sst2", "tlc_jax.study --config study_sst2 --workdir 'my runs'"),
    ],
)
def test_a_document_of_another_command_names_it(command: type, document: str, paste: str) -> None:
    with pytest.raises(UserError) as error:
        cli.parse(command, ["--config", document, "--workdir", "my runs"])
    assert str(error.value).endswith(f"; it is for python -m {paste}")


def test_steps_are_options_only_where_a_document_has_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, arguments = tmp_path / "mine.py", ["run", "--out", "o"]
    path.write_text(
        "from tlc_jax.compression.methods import KeepUnits\nfrom tlc_jax.config import CompressConfig\n"
        "def get_config():\n    return CompressConfig(steps=(KeepUnits(heads=2),))\n"
    )
    override = ["--config", str(path), *arguments, "--steps.0.heads", "3"]
    assert vars(cli.parse(Compress, override).settings.steps[0])["heads"] == 3
    for unknown in (["--steps", "KeepUnits"], ["--steps.0.heads", "3"]):
        with pytest.raises(SystemExit):
            cli.parse(Compress, [*arguments, *unknown])
    capsys.readouterr()
    with pytest.raises(SystemExit):
        cli.parse(Compress, ["--help-all"])
    assert "--steps" not in capsys.readouterr().out
