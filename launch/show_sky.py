"""Print what SkyPilot would run for launch/sky.yaml, and check that file. Needs no account and no network.

    python launch/show_sky.py python -m tlc_jax.train --config pretrain --workdir gs://BUCKET/paper

SkyPilot needs an environment of its own: `pip install 'skypilot[gcp]'`.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

COMMAND = "python -m tlc_jax.train --config quickstart --workdir gs://BUCKET/quickstart"
FILE = Path(__file__).with_name("sky.yaml")


def main(arguments: list[str]) -> None:
    try:
        import sky  # pyright: ignore[reportMissingImports]
    except ImportError:
        sys.exit("error: SkyPilot is not here: pip install 'skypilot[gcp]' in an environment of its own")
    import yaml

    command = shlex.join(arguments) or COMMAND
    config = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    task = sky.Task.from_yaml_config(config, env_overrides=[("COMMAND", command)])
    print(shlex.join(["sky", "jobs", "launch", "launch/sky.yaml", "--env", f"COMMAND={command}"]))
    for resources in task.resources:
        print(f"# one of: {resources}, {resources.job_recovery}")
    print(f"# to set up:\n{task.setup}# to run, with COMMAND={task.envs['COMMAND']}:\n{task.run}", end="")


if __name__ == "__main__":
    main(sys.argv[1:])
