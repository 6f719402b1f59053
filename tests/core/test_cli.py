"""Command lines and config documents: typed, with one clear message for each mistake."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tlc_jax.compress import Compress
from tlc_jax.config import BudgetConfig, Config
from tlc_jax.core import cli
from tlc_jax.core.errors import UserError
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
    assert settings.model.hidden_size == cli.load_config("quickstart", Config).model.hidden_size, (
        "the rest is the file's"
    )


def test_a_path_is_a_config_too(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("from tlc_jax.config import Config\ndef get_config():\n    return Config(batch_size=5)\n")
    assert cli.load_config(str(path), Config).batch_size == 5


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--model.num-layer", "6"], ["--model.num-layer", "--model.num-layers"]),
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
        cli.load_config(str(tmp_path / "c.py"), Config)


def test_an_unknown_name_lists_what_there_is() -> None:
    with pytest.raises(
        UserError,
        match="there are .*pretrain_small, .*quickstart, .*; perhaps quickstart",
    ):
        cli.load_config("quikstart", Config)


def test_help_imports_nothing_heavy() -> None:
    """What makes --help answer in 0.3 s: neither numpy nor jax nor jaxtyping is loaded."""
    code = (
        "import sys\nfrom tlc_jax import train\n"
        "try: train.main(['--config', 'pretrain', '--help'])\nexcept SystemExit: pass\n"
        "print('HEAVY', sorted({'numpy', 'jax', 'jaxtyping', 'flax', 'typeguard'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "HEAVY []" in done.stdout
    assert "--model.num-layers" in done.stdout
    assert "125000" in done.stdout, "the values of that config"


def test_steps_are_options_only_where_a_document_has_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, arguments = tmp_path / "mine.py", ["--checkpoint", "run", "--out", "o"]
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
        cli.parse(Compress, ["--help"])
    assert "--steps" not in capsys.readouterr().out


def test_help_into_a_pipe_that_nobody_reads() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "tlc_jax.train", "--help", "--config", "quickstart"]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_console_command(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    from tlc_jax import __main__

    monkeypatch.setattr(sys, "argv", ["tlc"])
    __main__.main()
    assert "train" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["tlc", "trian"])
    with pytest.raises(SystemExit) as stop:
        __main__.main()
    assert stop.value.code == 2
    files = {path.stem for path in Path(__main__.__file__).parent.glob("[!_]*.py")}
    assert files == __main__.COMMANDS.keys()
    for name in __main__.COMMANDS:
        monkeypatch.setattr(sys, "argv", ["tlc", name, "--help"])
        with pytest.raises(SystemExit) as stop:
            __main__.main()
        assert stop.value.code == 0
