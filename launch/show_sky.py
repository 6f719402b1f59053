"""Prints what SkyPilot would run for launch/sky.yaml, and checks the file; needs no account and no network.

    python launch/show_sky.py python -m tlc_jax.train --config pretrain --workdir gs://BUCKET/paper

SkyPilot belongs into an environment of its own: `pip install 'skypilot[gcp]'`.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

COMMAND = "python -m tlc_jax.train --config quickstart --workdir gs://BUCKET/quickstart"
FILE = Path(__file__).with_name("sky.yaml")


def main(arguments: list[str]) -> None:
    try:
        import sky
    except ImportError:
        sys.exit(
            "error: SkyPilot is not installed here: pip install 'skypilot[gcp]' in an environment of its own"
        )
    command = shlex.join(arguments) or COMMAND
    task = sky.Task.from_yaml_config(
        sky.utils.common_utils.read_yaml(str(FILE)), env_overrides=[("COMMAND", command)]
    )
    print(shlex.join(["sky", "jobs", "launch", "launch/sky.yaml", "--env", f"COMMAND={command}"]))
    for resources in task.resources:
        print(f"# {resources}")
    print(f"# set up:\n{task.setup}# run, with COMMAND={command}:\n{task.run}", end="")


if __name__ == "__main__":
    main(sys.argv[1:])
