"""What commands say about themselves: help that fits a terminal, version, completion, how they are called."""

from __future__ import annotations

import os
import pty
import re
import select
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tlc_jax import __main__, __version__, bench, compress, report, study, train
from tlc_jax.config import CompressConfig, Config, StudyConfig
from tlc_jax.core.config_document import load_config
from tlc_jax.core.invocation import command
from tlc_jax.core.options import options_of

SUBCOMMANDS = [("bench", name) for name in bench.BENCH] + [("report", name) for name in report.REPORT]
COMMANDS = [(name,) for name in __main__.COMMANDS] + SUBCOMMANDS
SHORT = [("train",), ("study",), ("compress",), ("bench", "step-time"), ("bench", "compile")]


def answer(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What `tlc ARGUMENTS` prints before it ends with exit code 0."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["tlc", *arguments])
        with pytest.raises(SystemExit) as stop:
            __main__.main()
    assert stop.value.code == 0
    return capsys.readouterr().out


def test_commands_are_the_modules_that_have_a_main() -> None:
    files = Path(__main__.__file__).parent.glob("[!_]*.py")
    assert {file.stem for file in files if "\ndef main(" in file.read_text()} == __main__.COMMANDS.keys()


@pytest.mark.parametrize("words", [(), *COMMANDS], ids=" ".join)
@pytest.mark.parametrize("option", ["--help", "--help-all"])
def test_help_fits_80_columns(words: tuple[str, ...], option: str, capsys: pytest.CaptureFixture) -> None:
    lines = answer(capsys, *words, option).splitlines()
    assert lines[0].startswith(" ".join(("usage: tlc", *words[:1], *words[1:])).removesuffix(" page"))
    assert max(map(len, lines)) <= 80
    assert "75 interrupted" in " ".join(lines)
    assert option == "--help-all" or len(lines) <= 62


def in_terminal(*command: str) -> str:
    """What a command prints on a terminal of 80 columns that has colours."""
    reading, writing = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80", "PYTHONUTF8": "1"}
    subprocess.run(command, stdout=writing, env=environment, check=True)
    shown = os.read(reading, 100_000).decode()
    for end in (reading, writing):
        os.close(end)
    assert "\x1b[" in shown
    return re.sub(r"\x1b\[[\d;]*m", "", shown)


def test_the_usage_of_several_commands_is_one_line(capsys: pytest.CaptureFixture) -> None:
    """It has no room for all names, and would break in the middle of one."""
    assert answer(capsys, "--help").splitlines()[:2] == ["usage: tlc [-h] COMMAND ...", ""]
    lines = in_terminal(sys.executable, "-m", "tlc_jax", "--help").splitlines()
    assert lines[:2] == ["usage: python -m tlc_jax [-h] COMMAND ...", ""]
    assert max(map(len, lines)) <= 80


def test_help_fits_a_terminal_and_keeps_its_boxes() -> None:
    """There, lines have escapes for colours, which take no column."""
    lines = in_terminal(sys.executable, "-m", "tlc_jax.export", "--help").splitlines()
    assert max(map(len, lines)) == 80
    assert all(line.endswith("│") for line in lines if line.startswith("│"))


@pytest.mark.parametrize("words", SHORT, ids=" ".join)
def test_the_first_help_is_short_and_the_other_has_all_options(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    config = "quickstart_study" if words == ("study",) else "quickstart"
    given = [] if words == ("compress",) else ["--config", config]
    short, long = (answer(capsys, *words, *given, option) for option in ("--help", "--help-all"))
    options = [set(re.findall(r"^[ │] +(--[\w.-]+|RUN)", text, re.MULTILINE)) for text in (short, long)]
    assert options[0] < options[1]
    assert f"tlc {' '.join(words)} --help-all" in short
    if words == ("train",):
        options_there = options_of(load_config("quickstart", Config))
        names = {each.name for each in options_there if not each.of_documents}
        assert {"--" + name.replace("_", "-") for name in names} <= options[1]
        assert "--optimizer.learning-rate" in short
        assert "--optimizer.beta1" not in short
        assert "pre-norm RoBERTa (2.1)" in long, "what the options of one part are about"
        assert "0.003)" in short, "the value of that config"


def test_a_document_may_define_a_step_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.py").write_text(
        "import dataclasses\nfrom tlc_jax.compression.methods import KeepUnits\n"
        "from tlc_jax.config import CompressConfig\n\n@dataclasses.dataclass(frozen=True)\n"
        "class Mine(KeepUnits):\n    share: float = 0.25\n\n"
        "def get_config():\n    return CompressConfig(steps=(Mine(heads=2),))\n"
    )
    shown = answer(capsys, "compress", "--config", str(tmp_path / "mine.py"), "--help-all")
    assert re.search(r"--steps\.0\.share FLOAT\s+\(default: 0\.25\)", shown)
    assert re.search(r"--steps\.0\.heads \{None\}\|INT\s+\w.* \(default: 2\)", shown, re.DOTALL)


def test_every_day_options_exist() -> None:
    config, pairs = Config(), load_config("translate_small", Config)
    finetuned = load_config("study_sst2", StudyConfig)
    timing = bench.StepTime(config="c", settings=config)
    compiling = bench.Compile(config="c", settings=config, topology="v3:2x2")
    for values, names in (
        ([train.Train(workdir="w", settings=settings) for settings in (config, pairs)], train.EVERYDAY),
        ([study.Study(config="c", workdir="w", settings=finetuned)], study.EVERYDAY),
        ([compress.Compress(out="o", settings=CompressConfig())], compress.EVERYDAY),
        ([timing, compiling], bench.EVERYDAY),
    ):
        assert set(names) <= {option.name for value in values for option in options_of(value)}


@pytest.mark.parametrize("words", [(), *COMMANDS], ids=" ".join)
def test_every_command_tells_its_version(words: tuple[str, ...], capsys: pytest.CaptureFixture) -> None:
    assert answer(capsys, *words, "--version") == f"tlc_jax {__version__}\n"


@pytest.mark.parametrize(
    ("started", "named"),
    [
        ("/usr/bin/tlc", "tlc compress"),
        ("C:/tlc.exe", "tlc compress"),
        ("/x/tlc_jax/__main__.py", "python -m tlc_jax compress"),
        ("/x/tlc_jax/compress.py", "python -m tlc_jax.compress"),
        ("/x/ipykernel_launcher.py", "python -m tlc_jax.compress"),
        ("", "python -m tlc_jax.compress"),
    ],
)
def test_a_command_is_named_as_it_was_started(
    started: str, named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [started])
    assert command("compress") == named


@pytest.mark.parametrize("started", ["tlc diff", "python -m tlc_jax diff", "python -m tlc_jax.diff"])
def test_processes_name_themselves(started: str) -> None:
    program, *rest = started.split()
    done = subprocess.run(
        [Path(sys.executable).parent / program, *rest, "a"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert f"{started} --help" in done.stderr


def test_an_unknown_command_is_answered_with_those_there_are(
    capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["tlc", "trian"])
    with pytest.raises(SystemExit) as stop:
        __main__.main()
    assert stop.value.code == 2
    assert re.search("tlc has no command trian; it has .*evaluate.*; perhaps train", capsys.readouterr().err)
    monkeypatch.setattr(sys, "argv", ["tlc"])
    with pytest.raises(SystemExit) as stop:
        __main__.main()
    assert stop.value.code == 0
    assert "evaluate" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "completed"),
    [
        ("tlc tra", {"train", "translate"}),
        ("tlc train --optimizer.b", {"--optimizer.beta1", "--optimizer.beta2"}),
        ("tlc bench ste", {"step-time"}),
        ("tlc report sensitivity --ex", {"--examples"}),
        ("tlc export run --format h", {"huggingface"}),
        ("tlc export run --format ''", {"huggingface", "compressed-tensors"}),
        ("tlc train --config quick", {"quickstart", "quickstart_study"}),
        (
            "tlc evaluate ''",
            "-h --help --task --data.dir --predictions --hypotheses --references --language --json",
        ),
    ],
)
def test_bash_completes_commands_and_options(line: str, completed: set[str] | str, completion: Path) -> None:
    words = shlex.split(line)
    array = shlex.join(words)
    script = (
        f"source {completion}; COMP_WORDS=({array}); COMP_CWORD={len(words) - 1}\n"
        "_tyro_tlc; printf '%s\\n' \"${COMPREPLY[@]}\""
    )
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    shown = set(completed.split()) if isinstance(completed, str) else completed
    assert set(done.stdout.split()) - {"--no-json"} == shown


@pytest.mark.parametrize("line", ["tlc evaluate my_", "tlc train --config ./my_", "tlc train --workdir my_"])
def test_bash_completes_files_where_there_is_nothing_else(
    line: str, completion: Path, tmp_path: Path
) -> None:
    (tmp_path / "my_run_of_text").mkdir()
    reading, writing = pty.openpty()
    shell = subprocess.Popen(
        ["bash", "--norc", "--noprofile", "-i"],
        **dict.fromkeys(("stdin", "stdout", "stderr"), writing),
        cwd=tmp_path,
        start_new_session=True,
    )
    os.write(reading, f"source {completion}\n{line}\t".encode())
    shown = ""
    while "my_run_of_text/" not in shown and select.select([reading], [], [], 20)[0]:
        shown += os.read(reading, 10_000).decode()
    shell.kill()
    shell.wait()
    for end in (reading, writing):
        os.close(end)
    assert "my_run_of_text/" in shown


@pytest.fixture(scope="module")
def completion(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("completions") / "tlc"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["tlc", "--tyro-write-completion", "bash", str(path)])
        with pytest.raises(SystemExit):
            __main__.main()
    return path


def test_help_imports_nothing_heavy() -> None:
    """What makes --help answer in 0.3 s: neither numpy nor jax nor jaxtyping is loaded."""
    code = (
        "import sys\nfrom tlc_jax import train\n"
        "try: train.main(['--config', 'pretrain', '--help-all'])\nexcept SystemExit: pass\n"
        "print('HEAVY', sorted({'numpy', 'jax', 'jaxtyping', 'flax', 'typeguard'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "HEAVY []" in done.stdout
    assert "--model.num-layers" in done.stdout
    assert "125000" in done.stdout, "the values of that config"


def test_help_into_a_pipe_that_nobody_reads() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    started = [sys.executable, "-m", "tlc_jax.train", "--help", "--config", "quickstart"]
    done = subprocess.run(started, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")
