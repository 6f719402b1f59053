"""`gcloud` of a cloud that is a folder: a node's home is a folder below it, and ssh is a shell there.

FAKE_CLOUD names the folder. `calls.jsonl` records the arguments of each call. `plan.json` says what happens:
{"waits": looks until a node is there, "taken": when the first nodes are taken away (a pattern in the output
of their command), "broken": the calls that fail once (a part of the command line)}.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

CLOUD = Path(os.environ["FAKE_CLOUD"])
WAITING = ["WAITING_FOR_RESOURCES", "PROVISIONING"]


def main() -> int:
    words = [word for word in sys.argv[1:] if not word.startswith("-")]
    flags = {
        word[2:].partition("=")[0]: word.partition("=")[2] for word in sys.argv[1:] if word.startswith("--")
    }
    with (CLOUD / "calls.jsonl").open("a") as file:
        file.write(json.dumps(sys.argv[1:]) + "\n")
    if breaks(" ".join(sys.argv[1:])):
        print("ERROR: (gcloud) the cloud does not answer", file=sys.stderr)
        return 1
    name = next((name for name in COMMANDS if " ".join(words).startswith(name)), None)
    if name is None:
        print(f"ERROR: (gcloud) Invalid choice: {words}", file=sys.stderr)
        return 2
    return COMMANDS[name](words[len(name.split()) :], flags)


def breaks(call: str) -> bool:
    plan = read("plan")
    for part in plan.get("broken", []):
        if part in call:
            plan["broken"].remove(part)
            write("plan", plan)
            return True
    return False


def read(name: str) -> dict:
    path = CLOUD / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else {}


def write(name: str, value: dict) -> None:
    (CLOUD / f"{name}.json").write_text(json.dumps(value))


def refuse(text: str, code: int = 1) -> int:
    print(f"ERROR: (gcloud) {text}", file=sys.stderr)
    return code


# --- nodes, whatever they are called -----------------------------------------------------------------------


def create(name: str, hosts: int) -> int:
    if read(name):
        return refuse(f"{name} already exists")
    plan = read("plan")
    born = plan["born"] = plan.get("born", 0) + 1
    write("plan", plan)
    write(name, {"state": "WAITING", "hosts": hosts, "waits": plan.get("waits", 0), "born": born})
    return 0


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Other calls wait."""
    with (CLOUD / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@alone()
def looked_at(name: str) -> dict:
    """The nodes after what happens between two looks."""
    nodes, plan = read(name), read("plan")
    if nodes.get("state") == "WAITING":
        nodes["waits"] -= 1
        if nodes["waits"] < 0:
            nodes["state"] = plan.get("ends_as", "ACTIVE")
            for index in range(nodes["hosts"]):
                home(name, index).mkdir(parents=True)
    taken = plan.get("taken")
    if nodes.get("state") == "ACTIVE" and taken and nodes["born"] == 1:
        logs = (home(name, index) / "tlc_job" / "log" for index in range(nodes["hosts"]))
        if any(log.exists() and re.search(taken, log.read_text()) for log in logs):
            destroy(name)
            nodes["state"] = "SUSPENDED"
    if nodes:
        write(name, nodes)
    return nodes


def destroy(name: str) -> None:
    """Their processes end without warning, and their disks are gone."""
    for index in range(read(name)["hosts"]):
        with contextlib.suppress(OSError, ValueError):
            os.killpg(int((home(name, index) / "tlc_job" / "pid").read_text()), signal.SIGKILL)
    shutil.rmtree(CLOUD / name, ignore_errors=True)


@alone()
def delete(name: str) -> int:
    if not read(name):
        return refuse(f"{name} was not found")
    destroy(name)
    (CLOUD / f"{name}.json").unlink()
    return 0


def home(name: str, index: int) -> Path:
    return CLOUD / name / str(index)


def ssh(name: str, index: int, command: str) -> int:
    if read(name).get("state") != "ACTIVE":
        return refuse("[/usr/bin/ssh] exited with return code [255].", 255)
    place = home(name, index)
    return subprocess.run(
        ["bash", "-c", command], cwd=place, env={**os.environ, "HOME": str(place)}
    ).returncode


def copy(source: str, name: str, index: int, file: str) -> int:
    if read(name).get("state") != "ACTIVE":
        return refuse("[/usr/bin/scp] exited with return code [255].", 255)
    shutil.copyfile(source, home(name, index) / file)
    return 0


# --- the Cloud TPU API: a queued resource of one node with one or more workers -----------------------------


def queue_create(words: list[str], flags: dict[str, str]) -> int:
    chips = int(flags["accelerator-type"].rpartition("-")[2])
    assert flags["node-id"] == words[0]
    return create(words[0], max(1, chips // 8))


def queue_list(words: list[str], flags: dict[str, str]) -> int:
    assert flags["format"] == "value(state.state)"
    nodes = looked_at(flags["filter"].removeprefix("name~/").removesuffix("$"))
    if nodes:
        waiting = WAITING[nodes["waits"] == 0]
        print(waiting if nodes["state"] == "WAITING" else nodes["state"])
    return 0


def queue_delete(words: list[str], flags: dict[str, str]) -> int:
    if read(words[0]).get("state") in ("ACTIVE", "SUSPENDED") and "force" not in flags:
        return refuse(f"{words[0]} has nodes")
    return delete(words[0])


def workers(name: str, flags: dict[str, str]) -> range:
    chosen = flags.get("worker", "0")
    return range(read(name).get("hosts", 1)) if chosen == "all" else range(int(chosen), int(chosen) + 1)


def tpu_ssh(words: list[str], flags: dict[str, str]) -> int:
    return max(ssh(words[0], index, flags["command"]) for index in workers(words[0], flags))


def tpu_scp(words: list[str], flags: dict[str, str]) -> int:
    name, _, file = words[1].partition(":")
    return max(copy(words[0], name, index, file) for index in workers(name, flags))


# --- Compute Engine: templates, policies and groups ---------------------------------------------------------


def template_create(words: list[str], flags: dict[str, str]) -> int:
    if read(f"template-{words[0]}"):
        return refuse("the template already exists")
    write(f"template-{words[0]}", flags)
    return 0


def policy_create(words: list[str], flags: dict[str, str]) -> int:
    write(f"policy-{words[0]}", flags)
    return 0


def policy_list(words: list[str], flags: dict[str, str]) -> int:
    name = flags["filter"].removeprefix("name=")
    if read(f"policy-{name}"):
        print(name)
    return 0


def removes(kind: str) -> Callable[[list[str], dict[str, str]], int]:
    def remove(words: list[str], flags: dict[str, str]) -> int:
        path = CLOUD / f"{kind}-{words[0]}.json"
        if not path.exists():
            return refuse(f"the {kind} was not found")
        path.unlink()
        return 0

    return remove


def group_create(words: list[str], flags: dict[str, str]) -> int:
    if not read(f"template-{flags['template']}"):
        return refuse("the template was not found")
    policy = flags.get("workload-policy", "").rpartition("/")[2]
    if policy and not read(f"policy-{policy}"):
        return refuse("the policy was not found")
    assert (int(flags["size"]) > 1) == bool(policy)
    return create(words[0], int(flags["size"]))


def group_list(words: list[str], flags: dict[str, str]) -> int:
    if nodes := read(flags["filter"].removeprefix("name=")):
        print(nodes["hosts"])
    return 0


def group_instances(words: list[str], flags: dict[str, str]) -> int:
    nodes = looked_at(words[0])
    if not nodes:
        return refuse("the group was not found")
    status = {"WAITING": "STAGING", "ACTIVE": "RUNNING", "SUSPENDED": "TERMINATED"}[nodes["state"]]
    for index in range(nodes["hosts"]):
        # one host is taken away, and the others are of no use then
        print(f"{words[0]}-{index:04}\t{status if index == 0 or status != 'TERMINATED' else 'RUNNING'}")
    return 0


def instance_ssh(words: list[str], flags: dict[str, str]) -> int:
    name, _, index = words[0].rpartition("-")
    return ssh(name, int(index), flags["command"])


def instance_scp(words: list[str], flags: dict[str, str]) -> int:
    host, _, file = words[1].partition(":")
    name, _, index = host.rpartition("-")
    return copy(words[0], name, int(index), file)


def storage_rsync(words: list[str], flags: dict[str, str]) -> int:
    assert "recursive" in flags
    Path(words[1]).mkdir()
    Path(words[1], "from").write_text(words[0])
    return 0


def project(words: list[str], flags: dict[str, str]) -> int:
    print("my-project")
    return 0


COMMANDS: dict[str, Callable[[list[str], dict[str, str]], int]] = {
    "compute tpus queued-resources create": queue_create,
    "compute tpus queued-resources list": queue_list,
    "compute tpus queued-resources delete": queue_delete,
    "compute tpus tpu-vm ssh": tpu_ssh,
    "compute tpus tpu-vm scp": tpu_scp,
    "compute instance-templates create": template_create,
    "compute instance-templates delete": removes("template"),
    "compute resource-policies create workload-policy": policy_create,
    "compute resource-policies list": policy_list,
    "compute resource-policies delete": removes("policy"),
    "compute instance-groups managed create": group_create,
    "compute instance-groups managed list-instances": group_instances,
    "compute instance-groups managed list": group_list,
    "compute instance-groups managed delete": lambda words, flags: delete(words[0]),
    "compute ssh": instance_ssh,
    "compute scp": instance_scp,
    "config get-value project": project,
    "storage rsync": storage_rsync,
}

if __name__ == "__main__":
    sys.exit(main())
