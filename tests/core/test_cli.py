"""Command lines and config documents: typed, with one clear message for each mistake."""

from __future__ import annotations

from pathlib import Path

import pytest

from tlc_jax import report
from tlc_jax.bench import StepTime
from tlc_jax.compress import Compress
from tlc_jax.config import BudgetConfig, Config
from tlc_jax.core import cli, command_line
from tlc_jax.core.config_document import load_config
from tlc_jax.core.errors import NotFinite, UserError
from tlc_jax.diff import Diff
from tlc_jax.evaluate import Evaluate
from tlc_jax.export import Export
from tlc_jax.inspect import Inspect
from tlc_jax.report import Curves, Report
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
        (["--model.nmu-layers", "6"], "no option --model.nmu-layers: perhaps --model.num-layers"),
        (["--epochs", "3"], "no option --epochs: perhaps --budget.steps or --budget.training-seconds"),
        (["--run", "w"], "no option --run: perhaps --workdir"),
        (["--nothing.like.it"], "no option --nothing.like.it: python -m tlc_jax.train --help-all shows all"),
        (["--optimizer.learning-rate", "fast"], "--optimizer.learning-rate takes a number, not fast"),
        (["--budget.steps", "1e3"], "--budget.steps takes a whole number or None, not 1e3: write 1000"),
        (["--schedule.cooldown=60%"], "--schedule.cooldown takes a number or None, not 60%: write 0.6"),
        (["--micro-batch", "x"], "--micro-batch takes a whole number, auto or None, not x"),
        (
            ["--schedule.follows", "epochs"],
            "--schedule.follows takes steps, training_seconds or tokens, not 'epochs'",
        ),
        (["--budget.steps"], "--budget.steps needs a value"),
        (["--dry-run", "yes"], "'yes' has no option before it, and the command takes options only"),
        (["--model.num-layers", "0"], "model.num_layers must be at least 1, not 0"),
    ],
)
def test_a_mistake_is_answered_in_one_sentence(arguments: list[str], says: str) -> None:
    with pytest.raises(UserError) as error:
        parse(*arguments)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("command", "line", "says"),
    [
        (Train, "quickstart", "train needs --workdir; perhaps --config quickstart in place of quickstart"),
        (Study, "--workdir w --bits 4.5", "--bits takes whole numbers, not 4.5"),
    ],
)
def test_a_mistake_in_a_command_with_a_document(command: type, line: str, says: str) -> None:
    with pytest.raises(UserError) as error:
        cli.parse(command, line.split())
    assert str(error.value).endswith(says)


@pytest.mark.parametrize(
    ("command", "line", "says"),
    [
        (Evaluate, "--run r", "no option --run: perhaps RUN, which is given without a name"),
        (Evaluate, "--workdir r", "no option --workdir: perhaps RUN, which is given without a name"),
        (Evaluate, "--checkpoint a b", "'b' has no option before it, and the command takes only RUN"),
        (Inspect, "--run r", "no option --run: perhaps ARTIFACT, which is given without a name"),
        (Export, "r", "export needs --out and --format"),
        (Export, "r --out o --format zip", "--format takes huggingface or compressed-tensors, not 'zip'"),
        (Export, "r --output o", "no option --output: perhaps --out"),
        (Report, "", "report needs WORKDIR"),
        (Curves, "--output a.png", "curves needs RUN"),
    ],
)
def test_a_mistake_in_a_command_without_a_document(command: type, line: str, says: str) -> None:
    with pytest.raises(UserError) as error:
        cli.parse_plain(command, line.split())
    assert says in str(error.value)


@pytest.mark.parametrize("line", ["a b", "--run a b", "--output c.png --run a b", "a b --output c.png"])
def test_runs_of_a_report_are_given_without_a_name_or_with_it(line: str) -> None:
    assert cli.parse_plain(Curves, line.split()).run == ("a", "b")


@pytest.mark.parametrize(
    "line", ["errors {}", "errors --run {}", "sensitivity {}", "sensitivity --run {}", "curves {}"]
)
def test_reports_call_what_is_no_run_as_their_help_does(line: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"^(RUN )?{tmp_path}.* is (not|neither) a(n artifact| run)"):
        report.main(line.format(tmp_path).split())


def test_a_misspelt_report_is_answered_with_the_right_one() -> None:
    with pytest.raises(
        UserError, match="no report eror and there is no folder eror; perhaps .*report errors$"
    ):
        report.main(["eror"])


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
def test_checks_of_two_fields_name_both(arguments: list[str], names: list[str]) -> None:
    with pytest.raises(UserError) as error:
        parse(*arguments)
    assert all(name in str(error.value) for name in names), error.value


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


def test_of_two_arguments_the_first_may_be_given_by_its_name() -> None:
    for given in (["a", "b"], ["--one", "a", "b"], ["b", "--one=a"]):
        assert cli.parse_plain(Diff, given) == Diff("a", "b")
    with pytest.raises(UserError, match="diff needs RUN"):
        cli.parse_plain(Diff, ["a"])


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
        with pytest.raises(UserError, match="there is no option --steps"):
            cli.parse(Compress, [*arguments, *unknown])
    with pytest.raises(SystemExit):
        cli.parse(Compress, ["--help-all"])
    assert "--steps" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("said", "named"),
    [
        ("data.dir is not set: give --data.dir DIR", "data.dir is not set: give --train.data.dir DIR"),
        ("give --train.data.dir DIR or --workdir model.x", "give --train.data.dir DIR or --workdir model.x"),
        (
            "--model.num-layers=3 and --budget.steps 1",
            "--train.model.num-layers=3 and --train.budget.steps 1",
        ),
    ],
)
def test_messages_name_the_options_of_a_part_as_the_command_has_them(said: str, named: str) -> None:
    with pytest.raises(NotFinite) as raised, command_line.options_below("train"):
        raise NotFinite(said, "x")
    assert str(raised.value) == f"{named}: x"
