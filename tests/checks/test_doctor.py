"""doctor on a good and on broken installations: what it finds, what mends it, and with what code it ends."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import psutil
import pytest

from tests.builders import machine
from tlc_jax import doctor
from tlc_jax.core import compiled
from tlc_jax.parallel import accelerators

GB = 10**9


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
    missing = ["--finetune.data.name", "files", "--finetune.data.dir", str(tmp_path / "none")]
    found = failed(capsys, *options, *missing)
    assert found.keys() == {"data"}
    assert "--finetune.data.dir my_text/" in found["data"]["hint"]


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


def test_it_says_so_where_jax_itself_cannot_be_imported(tmp_path: Path) -> None:
    installed(tmp_path, "jaxlib", "0.4.0")
    (tmp_path / "jaxlib").mkdir()
    (tmp_path / "jaxlib" / "__init__.py").write_text("raise ImportError('jaxlib is broken')\n")
    ended = subprocess.run(
        [sys.executable, "-m", "tlc_jax.doctor", "--json"],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 1, ended.stderr
    found = {check["name"]: check for check in json.loads(ended.stdout)["checks"]}
    assert "jaxlib is 0.4.0, but jax needs jaxlib" in found["packages"]["detail"]
    assert found["devices"]["detail"] == "not checked: mend packages first"
    assert found["caches"]["ok"]


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
    found = failed(capsys, *command(tmp_path / "run", "--init-from", str(tmp_path / "none")))
    assert found["data"]["detail"].startswith(f"--init-from: {tmp_path}/none is neither a run directory nor")


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
