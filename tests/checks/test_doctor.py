"""doctor on a good and on broken installations: what it finds, what mends it, and with what code it ends."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import psutil
import pytest

from tests.builders import documents, machine, write_tables
from tlc_jax import doctor, prepare, train
from tlc_jax.checks import sample
from tlc_jax.core import cli, compiled
from tlc_jax.parallel import accelerators
from tlc_jax.storage import paths

GB = 10**9
ROOT = Path(doctor.__file__).parent.parent
BARE = f"""
import runpy, sys
sys.path.insert(0, {str(ROOT)!r})  # and no packages: -S
def run(module, *arguments):
    sys.argv = [module, *arguments, "--json"]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
""".strip()


def ask(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """The exit code of doctor and what it prints."""
    try:
        doctor.main(list(arguments))
    except SystemExit as ended:
        return int(str(ended.code)), capsys.readouterr().out
    return 0, capsys.readouterr().out


def checks(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, dict[str, Any]]:
    """What it finds, by the name of the check; the document agrees with the exit code."""
    code, text = ask(capsys, *arguments, "--json")
    document = json.loads(text)
    assert document.keys() == {"ok", "checks"}
    assert document["ok"] == (code == 0) == all(check["ok"] for check in document["checks"])
    for check in document["checks"]:
        assert check.keys() == {"name", "ok", "detail", "hint"}
        assert bool(check["hint"]) != check["ok"], "a failure has a command that mends it"
    return {check["name"]: check for check in document["checks"]}


def failed(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, dict[str, Any]]:
    return {name: check for name, check in checks(capsys, *arguments).items() if not check["ok"]}


def installed(folder: Path, name: str, version: str, *requires: str) -> None:
    """A distribution in the place of the one that is installed, if `folder` comes first on the path."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    (info / "METADATA").write_text(
        "\n".join([*lines, *(f"Requires-Dist: {text}" for text in requires)]) + "\n"
    )


def test_a_good_installation_ends_with_the_command_to_run(
    command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = command(tmp_path / "run")
    found = checks(capsys, *arguments)
    assert list(found) == [check.name for check in doctor.CHECKS]
    assert "8 x cpu" in found["devices"]["detail"]
    assert "1,024 x 1,024 in " in found["product"]["detail"]
    code, text = ask(capsys, *arguments)
    assert code == 0
    assert text.count("\nok ") + text.startswith("ok ") == len(doctor.CHECKS)
    last = text.splitlines()[-1]
    assert last == f"next: python -m tlc_jax.train {shlex.join(arguments)}"
    assert not (tmp_path / "run").exists()
    assert not list(tmp_path.iterdir()), "what was written is removed"


def test_without_options_it_checks_for_the_first_command_of_the_readme(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, text = ask(capsys)
    assert code == 0, text
    assert text.endswith("next: python -m tlc_jax.study --config quickstart_study --workdir runs/study\n")


def test_a_study_and_its_data(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    options = ["--config", "quickstart_study", "--workdir", str(tmp_path / "s")]
    code, text = ask(capsys, *options)
    assert code == 0, text
    assert text.endswith(f"next: python -m tlc_jax.study {shlex.join(options)}\n")
    missing = ["--train.data.dir", str(tmp_path / "none")]
    found = failed(capsys, "--config", "study_sst2", *missing)
    assert found.keys() == {"data"}
    assert "--train.data.dir my_text/" in found["data"]["hint"]


@pytest.mark.slow
def test_a_run_to_resume_is_named_by_its_folder(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, text = ask(capsys, "--workdir", str(finished))
    assert code == 0, text
    assert "it holds a run to resume" in text
    assert f"prepared in {finished}/data" in text
    assert text.endswith(f"next: python -m tlc_jax.train --workdir {finished}\n")


# --- broken installations ---------------------------------------------------------------------------


def test_an_accelerator_that_would_be_unused(
    command, tmp_path: Path, capsys: pytest.CaptureFixture[str], free_choice: pytest.MonkeyPatch
) -> None:
    free_choice.setattr(accelerators, "ROOT", machine(tmp_path / "root", "nvidia0"))
    found = failed(capsys, *command(tmp_path / "run"))
    assert found["devices"]["hint"] == "pip install 'tlc-jax[cuda]'"
    assert (
        "(/dev/nvidia0) would be unused, since jax-cuda13-plugin is not installed"
        in (found["devices"]["detail"])
    )
    assert found["product"]["detail"] == "not checked: mend devices first"
    code, text = ask(capsys, *command(tmp_path / "run"))
    assert code == 1
    assert text.endswith("next: pip install 'tlc-jax[cuda]'\n")


def test_versions_that_do_not_go_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A package of another version, one whose requirement is missing, and a plugin of another jax."""
    monkeypatch.syspath_prepend(tmp_path)
    installed(tmp_path, "flax", "0.11.0")
    found = failed(capsys)
    assert found["packages"]["detail"] == "flax is 0.11.0, but tlc-jax needs flax<0.13,>=0.12"
    assert found["packages"]["hint"] == "pip install 'flax<0.13,>=0.12'"
    shutil.rmtree(tmp_path / "flax-0.11.0.dist-info")
    installed(
        tmp_path, "tyro", "1.0.99", "nothing-of-this-name>=2 ; python_version > '3'", "absent ; extra == 'x'"
    )
    found = failed(capsys)
    assert (
        (found["packages"]["detail"])
        == "nothing-of-this-name is missing, but tyro needs nothing-of-this-name>=2"
    )
    shutil.rmtree(tmp_path / "tyro-1.0.99.dist-info")
    installed(tmp_path, "jax-cuda13-plugin", "0.8.0")
    found = failed(capsys)
    assert found["packages"]["detail"].startswith(
        "jax-cuda13-plugin is 0.8.0, but jax needs jax-cuda13-plugin"
    )


def test_an_extra_that_the_config_asks_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    installed(tmp_path, "tensorboardX", "2.5")
    found = failed(capsys, "--tensorboard")
    detail, hint = (found["packages"][name].lower() for name in ("detail", "hint"))
    assert detail.startswith("tensorboardx is 2.5, but tlc-jax needs tensorboardx")
    assert hint.startswith("pip install 'tensorboardx")


def test_one_requirement_for_each_package_that_has_to_be_replaced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not those of the version that goes, which no other version of its partner can fulfil."""
    monkeypatch.syspath_prepend(tmp_path)
    installed(tmp_path, "jax", "0.9.2", "jaxlib<=0.9.2,>=0.9.2")
    installed(tmp_path, "flax", "0.12.99", "jax>=0.11.1")
    found = failed(capsys)
    assert found["packages"]["hint"] == "pip install 'jax<0.13,>=0.10,>=0.11.1'"
    assert "jaxlib" not in found["packages"]["detail"]
    assert "jax is 0.9.2, but flax needs jax>=0.11.1" in found["packages"]["detail"]


def ask_elsewhere(*command: str, **environment: str) -> dict[str, dict[str, Any]]:
    """What doctor finds in a process of its own."""
    ended = subprocess.run(
        [*command, "--json"], cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True
    )
    assert (ended.returncode, ended.stderr) == (1, "")
    return {check["name"]: check for check in json.loads(ended.stdout)["checks"]}


@pytest.mark.parametrize("command", ["tlc_jax.doctor", "tlc_jax doctor"])
def test_before_anything_is_installed(command: str) -> None:
    found = ask_elsewhere(sys.executable, "-ISc", f"{BARE}\nrun(*{command.split()})")
    assert found["packages"]["hint"] == "pip install -e ."
    assert found.keys() == {"packages"}


def broken(folder: Path, module: str, version: str, source: str) -> dict[str, str]:
    """The environment in which a package does `source` when it is imported."""
    installed(folder, module, version)
    (folder / f"{module}-{version}.dist-info" / "top_level.txt").write_text(module)
    (folder / module).mkdir()
    (folder / module / "__init__.py").write_text(source)
    return {"PYTHONPATH": f"{folder}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}


def test_jaxlib_of_another_version_that_cannot_be_imported(tmp_path: Path) -> None:
    environment = broken(tmp_path, "jaxlib", "0.4.0", "raise ImportError('jaxlib is broken')\n")
    found = ask_elsewhere(sys.executable, "-m", "tlc_jax.doctor", **environment)
    assert "jaxlib is 0.4.0, but jax needs jaxlib" in found["packages"]["detail"]
    assert found["devices"]["detail"] == found["caches"]["detail"] == "not checked: mend packages first"


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (
            "raise ImportError('numpy.core is gone', name='numpy.core')",
            "cannot be imported (ImportError: numpy.core",
        ),
        ("import os; os.abort()", "importing numpy ends the process with SIGABRT"),
    ],
)
def test_a_damaged_package_is_installed_again(source: str, says: str, tmp_path: Path) -> None:
    """pip leaves alone what has the right version; no other check is made, since it could end the process."""
    found = ask_elsewhere(
        sys.executable, "-m", "tlc_jax.doctor", **broken(tmp_path, "numpy", np.__version__, source)
    )
    assert says in found["imports"]["detail"]
    assert found["imports"]["hint"] == f"pip install --force-reinstall --no-deps numpy=={np.__version__}"
    assert found["caches"]["detail"] == "not checked: mend imports first"


def test_flags_that_xla_does_not_know() -> None:
    found = ask_elsewhere(sys.executable, "-m", "tlc_jax.doctor", XLA_FLAGS="--nonsense")
    assert "Unknown flag in XLA_FLAGS: --nonsense" in found["imports"]["detail"]
    assert found["imports"]["hint"] == "unset XLA_FLAGS"


@pytest.mark.slow
def test_jax_does_not_warn_of_its_cache_as_well() -> None:
    options = {compiled.VARIABLE: "/sys/compiled", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    found = ask_elsewhere(sys.executable, "-m", "tlc_jax.doctor", "--config", "quickstart", **options)
    assert [name for name, check in found.items() if not check["ok"]] == ["caches"]


def test_other_commands_name_doctor_where_jax_cannot_be_imported(tmp_path: Path) -> None:
    environment = broken(tmp_path, "jaxlib", "0.4.0", "__version__ = '0.4.0'\n")
    command = [
        sys.executable,
        "-m",
        "tlc_jax.train",
        "--config",
        "quickstart",
        "--workdir",
        str(tmp_path / "r"),
    ]
    ended = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True
    )
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1), ended.stderr
    assert ended.stderr.startswith("error: jax")
    assert ended.stderr.endswith("python -m tlc_jax.doctor says what to install\n")


def test_a_folder_that_cannot_be_written(command, capsys: pytest.CaptureFixture[str]) -> None:
    """/sys refuses everybody, root too."""
    found = failed(capsys, *command("/sys/runs/new"))
    assert found["workdir"]["detail"].startswith("nothing can be written to /sys/runs/new (")
    assert found["workdir"]["hint"].endswith("--workdir '~/new'")
    assert found["disk"]["detail"] == "not checked: mend workdir first"


def test_a_folder_of_something_else(command, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    found = failed(capsys, *command(tmp_path))
    assert f"--workdir {tmp_path} is not empty and holds no run" in found["workdir"]["detail"]


def test_a_full_disk(command, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A disk of 256 kB, where mounting is allowed."""
    mounted = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(tmp_path)]
    if subprocess.run(mounted, capture_output=True).returncode:
        pytest.skip("no disk can be mounted here")
    try:
        found = failed(capsys, *command(tmp_path / "run"))
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)
    assert found["workdir"]["detail"] == f"nothing can be written to {tmp_path}/run (No space left on device)"
    assert found["workdir"]["hint"].endswith("--workdir '~/run'")


def test_too_little_room(
    command, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the disk and of memory; a checkpoint is three float32 numbers a parameter, and keep + 1 must fit."""
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(2 * GB, GB, GB))  # type: ignore[attr-defined]
    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("", (), {"available": 3 * GB // 10}))
    small = command(tmp_path / "run")
    found = failed(capsys, *small)
    assert found.keys() == {"disk", "memory"}
    assert found["disk"]["detail"].startswith("1.0 GB are free on the disk of ")
    assert found["disk"]["hint"].startswith("du -xh ")
    assert "300 MB of memory are free" in found["memory"]["detail"]
    large = ["--model.num-layers", "24", "--model.hidden-size", "1024"]
    detail = failed(capsys, *small, *large)["disk"]["detail"]
    parameters = 24 * 12 * 1024**2  # but for biases, scales and embeddings
    need = float(detail.partition(" and ")[2].partition(" GB")[0])
    assert need == pytest.approx(1 + 12e-9 * 3 * parameters, rel=0.02), "checkpoint.keep is 2"


def test_missing_data_and_a_missing_run(command, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = [*command(tmp_path / "run")[:2], "--data.dir", str(tmp_path / "none")]
    found = failed(capsys, *options)
    assert found.keys() == {"data"}
    assert f"{tmp_path}/none" in found["data"]["detail"]
    assert found["data"]["hint"].endswith("--data.dir my_text/")
    found = failed(capsys, "--config", "finetune_sst2", "--data.dir", str(tmp_path / "none"))
    assert found["data"]["hint"] == "python -m tlc_jax.prepare glue/sst2 --out glue_sst2"
    write_tables(tmp_path / "tables", 40)
    found = failed(
        capsys, "--config", "finetune_sst2", "--data.name", "files", "--data.dir", str(tmp_path / "tables")
    )
    assert "a classification task trains no tokenizer: give --init-from" in found["data"]["detail"]
    assert found["data"]["hint"].endswith("--init-from RUN")
    found = failed(capsys, *command(tmp_path / "run", "--init-from", str(tmp_path / "none")))
    assert found.keys() == {"config"}
    assert found["config"]["detail"].startswith(
        f"--init-from: {tmp_path}/none is neither a run directory nor"
    )


def test_caches_that_cannot_be_written(
    command, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config, data = command(tmp_path / "run")[:2], command(tmp_path / "run")[2:4]
    found = failed(capsys, *config, *data, "--data.cache-dir", "/sys/cache")
    assert "prepared data cannot be kept: /sys/cache cannot be written" in found["caches"]["detail"]
    assert found["caches"]["hint"].endswith("--data.cache-dir data_cache")
    monkeypatch.setenv(compiled.VARIABLE, "/sys/compiled")
    found = failed(capsys, *command(tmp_path / "run"))
    assert found["caches"]["hint"] == f"export {compiled.VARIABLE}=$PWD/compiled"
    monkeypatch.delenv(compiled.VARIABLE)
    found = failed(capsys, *command(tmp_path / "run"))
    assert found["caches"]["detail"].startswith("no compiled programs are kept")


def test_a_device_that_computes_wrong(
    command, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    multiply = jnp.matmul
    monkeypatch.setattr(jnp, "matmul", lambda x, y: multiply(x, y).at[3, 5].add(100.0))
    arguments = command(tmp_path / "run")
    found = failed(capsys, *arguments)
    assert found.keys() == {"product"}
    assert "a product of two matrices on a cpu is wrong by" in found["product"]["detail"]
    assert found["product"]["hint"].startswith("JAX_PLATFORMS=cpu python -m tlc_jax.doctor --config")
    monkeypatch.setattr(jnp, "matmul", lambda x, y: multiply(x, y) * np.nan)
    assert failed(capsys, *arguments).keys() == {"product"}


def test_a_bucket_without_the_extra(
    command, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    find = doctor.inputs.importlib.util.find_spec
    monkeypatch.setattr(
        doctor.inputs.importlib.util,
        "find_spec",
        lambda name, *more: None if name == "gcsfs" else find(name, *more),
    )
    found = failed(capsys, *command("gs://bucket/run"))
    assert found["workdir"]["hint"] == "pip install 'tlc-jax[gcs]'"


@pytest.mark.parametrize("workdir", ["s3://x/y", "gs://"])
def test_what_is_no_bucket_of_google(workdir: str, command, capsys: pytest.CaptureFixture[str]) -> None:
    found = failed(capsys, *command(workdir))
    assert found["workdir"]["detail"] == f"{workdir} is neither a local path nor gs://BUCKET/FOLDER"
    assert "--workdir runs/" in found["workdir"]["hint"]


def test_a_bucket_without_a_network(
    command, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A port at which nobody listens; gcsfs would try for two minutes."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{unused.getsockname()[1]}")
        monkeypatch.setattr(paths, "_STORE_PATIENCE", 0.5)
        found = failed(capsys, *command("gs://bucket/run"))
    assert found["workdir"]["detail"] == (
        "gs://bucket/run cannot be reached (127.0.0.1: Connection refused): check the network"
    )
    assert found["workdir"]["hint"].startswith("curl ")


def test_a_batch_that_does_not_split_over_the_devices(capsys: pytest.CaptureFixture[str]) -> None:
    found = failed(capsys, "--config", "quickstart", "--batch-size", "100")
    assert found.keys() == {"config"}
    assert found["config"]["detail"] == (
        "batch_size is 100, which does not split over 8 devices: use a multiple"
    )
    assert found["config"]["hint"].endswith("--batch-size 104")
    study = failed(capsys, "--config", "study_sst2", "--finetune.batch-size", "100")
    assert study["config"]["hint"].endswith("--finetune.batch-size 104")
    small = failed(capsys, "--config", "quickstart_study", "--train.batch-size", "512")
    assert "give a batch_size of at least 1024" in small["data"]["detail"]
    assert small["data"]["hint"].endswith("--train.batch-size 1024")


def test_a_run_of_another_config(command, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = cli.parse(train.Train, command(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps(dataclasses.asdict(config.settings)))
    found = failed(capsys, *command(tmp_path), "--batch-size", "32")
    assert "holds a run of another config: batch_size is 32" in found["config"]["detail"]
    assert found["config"]["hint"].endswith(f"--workdir {tmp_path}-new")
    found = failed(capsys, *command(tmp_path), "--budget.steps", "7")
    assert "holds a run of another budget: budget.steps is 7" in found["config"]["detail"]


def test_data_that_training_would_refuse(
    command, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Text that is not UTF-8, too little of it, and a folder of `prepare` with a file that was changed or
    removed, whether all is prepared or a part is read."""
    text, out = tmp_path / "text", tmp_path / "out"
    text.mkdir()
    for name in ("a", "b"):
        (text / f"{name}.txt").write_text("\n\n".join(documents(40, seed=ord(name))))
    prepare.main(["text", "--input", str(text), "--out", str(out)])
    capsys.readouterr()
    options = [*command(tmp_path / "run"), "--data.dir"]
    found = failed(capsys, *options, str(out), "--model.vocab-size", "9000")
    assert "is the largest that this text yields" in found["data"]["detail"]
    assert re.search(r"--model.vocab-size \d+$", found["data"]["hint"])
    for whole in (0, 8_000_000):
        monkeypatch.setattr(sample, "_WHOLE", whole)
        assert not failed(capsys, *options, str(out))
    [first, _] = sorted(out.glob("*.zst"))
    content = first.read_bytes()
    first.write_bytes(content + b"x")
    monkeypatch.setattr(sample, "_WHOLE", 0)
    assert "was changed since prepare wrote it" in failed(capsys, *options, str(out))["data"]["detail"]
    first.unlink()
    assert f"{first} is missing" in failed(capsys, *options, str(out))["data"]["detail"]
    (text / "a.txt").write_bytes(b"good\n\n\xffbad\n\nmore")
    assert "line 3 is not UTF-8" in failed(capsys, *options, str(text))["data"]["detail"]
