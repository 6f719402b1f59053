"""tpu_vm.sh and tpu_group.sh against a cloud that takes its nodes away."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from tests.launch.machines import LAUNCH, ODD, Cloud, wait_for

# name of the script, its options, and how many hosts they make
KINDS = {
    "vm": ("tpu_vm.sh", [], 1),
    "pod": ("tpu_vm.sh", ["--type", "v5litepod-16"], 2),
    "slice": ("tpu_group.sh", ["--topology=2x4"], 2),
}
# notes its arguments, and where its data are from, in $1; then ends with the next code of the list in $2, or
# waits to be killed where that is "-"
COMMAND = """
import json, os, pathlib, signal, sys, time
starts = pathlib.Path(sys.argv[1])
data = pathlib.Path("my text", "from")
with starts.open("a") as file:
    file.write(json.dumps([*sys.argv[3:], *([data.read_text()] if data.exists() else [])]) + "\\n")
count = len(starts.read_text().splitlines())
code = (sys.argv[2].split(",") + ["0"] * 20)[count - 1]
if code == "-":
    def save(number, frame):
        starts.with_suffix(".saved").write_text("saved")
        sys.exit(75)
    signal.signal(signal.SIGTERM, save)
    print("trains", flush=True)
    while True:
        time.sleep(0.05)
print("ends with", code)
sys.exit(int(code))
"""


@pytest.fixture
def cloud(tmp_path: Path) -> Cloud:
    return Cloud(tmp_path / "cloud")


def command(cloud: Cloud, codes: str, *arguments: str) -> list[str]:
    program = cloud.folder / "command.py"
    program.write_text(COMMAND)
    return ["--", "python", "-IS", str(program), str(cloud.folder / "starts"), codes, *arguments]


def starts(cloud: Cloud) -> list[list[str]]:
    path = cloud.folder / "starts"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def verbs(cloud: Cloud) -> list[str]:
    """What was done to the nodes, in order; once for what was done to several hosts at a time."""
    verbs: list[str] = []
    for call in cloud.calls():
        line = next((word for word in call if word.startswith("--command=")), "")
        verb = next((verb for verb in ("install", "start", "stop") if f"on_node.sh {verb}" in line), "")
        if "cat tlc_job/log" in line:
            verb = "fetch log"
        if "scp" in call:
            verb = "copy"
        if "queued-resources" in call or "managed" in call:
            verb = next((verb for verb in ("create", "delete") if verb in call), "")
        if verb and verbs[-1:] != [verb]:
            verbs.append(verb)
    return verbs


@pytest.mark.parametrize("kind", ["vm", "slice", pytest.param("pod", marks=pytest.mark.slow)])
def test_nodes_that_are_taken_away_are_created_again_and_run_the_same_command(
    kind: str, cloud: Cloud
) -> None:
    script, options, hosts = KINDS[kind]
    cloud.plan(waits=2, taken="trains", broken=["scp", "scp"])
    codes = ",".join(["-"] * hosts)  # the first start of each host never ends
    options = [*options, "--data", "gs://b/my text/"]
    ended = cloud.run(script, "watch", *options, *command(cloud, codes, *ODD))
    assert ended.returncode == 0, ended.stderr
    assert "tlc cannot be reached yet" in ended.stderr
    assert "tlc is SUSPENDED: it is deleted and created again" in ended.stderr
    assert verbs(cloud) == [
        *("create", "copy", "install", "start"),
        *("delete", "create", "copy", "install", "start"),
        *("fetch log", "stop", "delete"),
    ]
    given = starts(cloud)
    assert len(given) == 2 * hosts
    assert all(arguments[: len(ODD)] == ODD and arguments[-1] == "gs://b/my text" for arguments in given)
    joined = sorted(" ".join(arguments[len(ODD) : -1]) for arguments in given[hosts:])
    explicit = [
        f"--hosts.coordinator tlc-0000:8476 --hosts.processes 2 --hosts.index {index}" for index in range(2)
    ]
    assert joined == {"vm": [""], "pod": ["--hosts.coordinator auto"] * 2, "slice": explicit}[kind]
    assert "ends with 0" in (cloud.folder / "tlc.log").read_text()
    assert cloud.left() == set()
    create = next(call for call in cloud.calls() if "create" in call)
    assert "--spot" in create or "--provisioning-model=SPOT" in create


@pytest.mark.parametrize("script", ["tpu_vm.sh", "tpu_group.sh"])
def test_a_command_that_fails_ends_the_watch_and_the_costs(script: str, cloud: Cloud) -> None:
    ended = cloud.run(script, "watch", *command(cloud, "2"))
    assert ended.returncode == 2, ended.stderr
    assert "the command failed (exit code 2); its output is in tlc.log, and tlc is deleted" in ended.stderr
    assert "ends with 2" in (cloud.folder / "tlc.log").read_text()
    assert (cloud.left(), len(starts(cloud))) == (set(), 1)


def test_a_command_that_was_interrupted_is_started_again_on_the_same_node(cloud: Cloud) -> None:
    cloud.plan(broken=["list", "state", "install"])  # each fails once; the first look is not yet a watch
    failed = cloud.run("tpu_vm.sh", "watch", *command(cloud, "75,134"))
    assert failed.returncode == 1
    assert "the cloud does not answer" in failed.stderr
    ended = cloud.run("tpu_vm.sh", "watch", *command(cloud, "75,134"))
    assert ended.returncode == 0, ended.stderr
    assert "the command could not be started on tlc: another attempt follows" in ended.stderr, "install"
    assert ended.stderr.count("the command was interrupted: it is started again") == 2
    assert (len(starts(cloud)), verbs(cloud).count("create")) == (3, 1)


@pytest.mark.slow
def test_a_command_that_is_always_interrupted_is_given_up(cloud: Cloud) -> None:
    ended = cloud.run("tpu_vm.sh", "watch", *command(cloud, ",".join(["75"] * 20)))
    assert ended.returncode == 1
    assert "the command was interrupted 5 times on the same nodes" in ended.stderr
    assert (len(starts(cloud)), cloud.left()) == (6, set())


def test_down_lets_the_command_save_first(cloud: Cloud) -> None:
    for verb in (["up"], ["run", *command(cloud, "-")]):
        assert cloud.run("tpu_vm.sh", *verb).returncode == 0
    wait_for(lambda: starts(cloud), "the command")
    assert "tlc running" in cloud.run("tpu_vm.sh", "status").stdout
    again = cloud.run("tpu_vm.sh", "run", *command(cloud, "-"))
    assert (again.returncode, again.stdout) == (0, "tlc: this command is running already\n")
    other = cloud.run("tpu_vm.sh", "run", *command(cloud, "0"))
    assert other.returncode == 2
    assert "another command is running: python -IS" in other.stderr
    assert "nothing is installed" in cloud.run("tpu_vm.sh", "up").stderr
    log = cloud.start("tpu_vm.sh", "logs")
    assert log.stdout is not None
    assert log.stdout.readline() == "trains\n"
    log.kill()
    assert cloud.run("tpu_vm.sh", "down").returncode == 0
    assert (cloud.folder / "starts.saved").exists()
    assert (cloud.left(), len(starts(cloud))) == (set(), 1)


def test_a_watch_that_is_stopped_says_what_is_left_and_is_taken_up_again(cloud: Cloud) -> None:
    cloud.plan(taken="never")
    first = cloud.start("tpu_vm.sh", "watch", *command(cloud, "-"))
    wait_for(lambda: starts(cloud), "the command")
    first.send_signal(signal.SIGHUP)  # its terminal is closed
    _, err = first.communicate(timeout=60)
    assert first.returncode == 75
    assert "tlc is still there and costs money" in err
    assert "tpu_vm.sh down --name tlc --zone us-west4-a" in err
    second = cloud.start("tpu_vm.sh", "watch", *command(cloud, "-"))
    assert second.stdout is not None
    assert second.stdout.readline() == "tlc: this command is running already\n"
    (cloud.folder / "plan.json").write_text('{"taken": "trains"}')
    _, err = second.communicate(timeout=60)
    assert second.returncode == 0, err
    assert len(starts(cloud)) == 2


@pytest.mark.parametrize("script", ["tpu_vm.sh", "tpu_group.sh"])
def test_a_cloud_that_is_not_there_or_does_not_answer(script: str, cloud: Cloud, tmp_path: Path) -> None:
    for verb in ("up", "status", "down"):
        command = ["/bin/bash", str(LAUNCH / script), verb]
        none = {"PATH": str(tmp_path / "bin"), "HOME": str(tmp_path)}
        (tmp_path / "bin").mkdir(exist_ok=True)
        for tool in ("dirname", "readlink"):
            (tmp_path / "bin" / tool).unlink(missing_ok=True)
            (tmp_path / "bin" / tool).symlink_to(str(shutil.which(tool)))
        ended = subprocess.run(command, env=none, capture_output=True, text=True, check=False)
        assert (ended.returncode, ended.stdout) == (2, "")
        assert ended.stderr.startswith(
            f"{script}: error: gcloud is not on PATH: install the Google Cloud CLI"
        )
        assert ended.stderr.count("\n") == 1
    cloud.plan(broken=["list"])
    ended = cloud.run(script, "status")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "the state of tlc is not known: gcloud has said why" in ended.stderr


def test_nodes_that_somebody_deletes_are_not_created_again(cloud: Cloud) -> None:
    watch = cloud.start("tpu_vm.sh", "watch", *command(cloud, "-"))
    wait_for(lambda: starts(cloud), "the command")
    subprocess.run(
        ["gcloud", *"compute tpus queued-resources delete tlc --force".split()], env=cloud.environment
    )
    _, err = watch.communicate(timeout=60)
    assert (watch.returncode, "somebody deleted tlc" in err, cloud.left()) == (1, True, set())


def test_nodes_on_which_nothing_can_be_installed_do_not_go_on_costing(cloud: Cloud) -> None:
    cloud.plan(broken=["node.sh install"] * 20)
    ended = cloud.run("tpu_vm.sh", "up")
    assert ended.returncode == 4
    assert "nothing could be installed; tlc costs money until" in ended.stderr
    ended = cloud.run("tpu_vm.sh", "watch", *command(cloud, "0"))
    assert ended.returncode == 1
    assert "the command could not be started on tlc in 5 attempts" in ended.stderr
    assert (cloud.left(), starts(cloud)) == (set(), [])


def test_nodes_that_do_not_answer_are_replaced(cloud: Cloud) -> None:
    watch = cloud.start("tpu_vm.sh", "watch", *command(cloud, "-"))
    wait_for(lambda: starts(cloud), "the command")
    cloud.plan(broken=["node.sh state"] * 10, born=1)
    _, err = watch.communicate(timeout=60)
    assert watch.returncode == 0, err
    assert "tlc is UNREACHABLE: it is deleted and created again" in err
    assert len(starts(cloud)) == 2


def test_nodes_that_cannot_be_created(cloud: Cloud) -> None:
    cloud.plan(ends_as="FAILED")
    ended = cloud.run("tpu_vm.sh", "up")
    assert ended.returncode == 1
    assert "tlc could not be created; the Google Cloud console shows why" in ended.stderr
    cloud.plan(broken=["managed create"])
    ended = cloud.run("tpu_group.sh", "up", "--name", "other", "--topology", "4x4")
    assert ended.returncode == 1
    assert cloud.left() == {"tlc"}, "no template and no policy is left of the group"
    cloud.plan()
    assert cloud.run("tpu_vm.sh", "up").returncode == 0, "what had failed is deleted first"
    assert verbs(cloud)[-4:] == ["delete", "create", "copy", "install"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            ["watch", "--", "train", "--workdir", "runs/x"],
            "runs/x is on the nodes' disk and is deleted with it",
        ),
        (["watch", "--", "train", "--workdir=x"], "give --workdir gs://BUCKET/FOLDER"),
        (["watch", "--", "train", "--workdir"], "--workdir has no value"),
        (["watch", "--", "python", "-m", "tlc_jax.train", "--config", "c"], "the command has no --workdir"),
        (["watch", "--", "bash", "-c", "tlc train --workdir 'runs/q'"], "runs/q' is on the nodes' disk"),
        (["up", "--", "python", "x"], "up takes no command: run and watch do"),
        (["up", "--type", "v3-7"], "--type v3-7 does not exist: v3 has the sizes 8 32"),
        (["up", "--zone", "nowhere"], "--zone nowhere is not a zone, such as us-west4-a"),
        (["up", "--zone", "europe-west4"], "is a region: give one of its zones, such as europe-west4-a"),
        *(
            (["up", "--name", name], f"--name {name} is not of small letters")
            for name in ("my tpu", "Ä", "a.*")
        ),
        (["up", "--data", "gs://b/c", "--data=gs://b/d"], "--data is given twice"),
        (["up", "--data", "gs://b/tlc_jax"], "would be copied over the code"),
        (["watch"], "give the command to watch"),
        (["run"], "give the command to run"),
        (["start"], "there is no start: give up, run, logs, status, watch or down"),
        (["up", "--colour", "red"], "there is no option --colour: see tpu_vm.sh --help"),
        (["up", "--zone"], "--zone needs a value"),
        (["up", "--type", "v6e-8"], "--type v6e-8 is not a TPU v2 to v5e: launch/tpu_group.sh"),
        (["up", "--data", "my_text"], "--data my_text is not gs://BUCKET/FOLDER"),
        (["run", "--", "train"], "tlc is GONE: give"),
    ],
)
def test_mistakes_are_answered_before_anything_is_created(
    arguments: list[str], says: str, cloud: Cloud
) -> None:
    ended = cloud.run("tpu_vm.sh", *arguments)
    assert (ended.returncode, says in ended.stderr) == (2, True), ended.stderr
    assert not any("create" in call for call in cloud.calls())


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--topology", "3x3"], "--topology 3x3 does not divide into hosts of 4 chips"),
        (["--topology", "4"], "--topology 4 is not like 4x4 or 2x2x4"),
        (["--machine-type", "ct9-standard-4t"], "ct9-standard-4t is not a machine with TPUs, such as ct6e"),
        (["--machine-type", "v6e-8"], "--machine-type v6e-8 does not end in a number of chips, such as -4t"),
    ],
)
def test_slices_that_do_not_exist(options: list[str], says: str, cloud: Cloud) -> None:
    ended = cloud.run("tpu_group.sh", "up", *options)
    assert (ended.returncode, says in ended.stderr) == (2, True), ended.stderr
    assert not cloud.calls()


def test_a_node_that_restarted_is_told_from_one_that_is_idle(tmp_path: Path) -> None:
    """The lock ends with the processes; what is left without an exit code was killed."""

    def on_node(*arguments: str) -> str:
        return subprocess.run(
            ["bash", str(LAUNCH / "on_node.sh"), *arguments],
            env={**os.environ, "HOME": str(tmp_path)},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        ).stdout.strip()

    assert on_node("state") == "tlc idle"
    assert on_node("start", "sleep", "100") == "tlc: started"
    assert on_node("state") == "tlc running"
    os.killpg(int((tmp_path / "tlc_job" / "pid").read_text()), signal.SIGKILL)
    wait_for(lambda: on_node("state") == "tlc interrupted", "the end")
    on_node("start", "bash", "-c", "exit 3")
    wait_for(lambda: on_node("state") == "tlc failed 3", "the end")
    ready = tmp_path / "ready"
    saves = f"trap 'sleep 0.3; exit 0' TERM; touch {ready}; while true; do sleep 0.05; done"
    on_node("start", "bash", "-c", saves)
    wait_for(ready.exists, "the command")
    on_node("stop")
    assert on_node("state") == "tlc done", "its own exit code, after it has saved"
