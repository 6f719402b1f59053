"""What every result file says of how it was made."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
import sys


def about() -> dict[str, str]:
    """Command, commit, date, and the machine as this process may use it. In a copy of the tree that is no
    checkout, the variable COMMIT says which commit it is."""
    commit = os.environ.get("COMMIT") or subprocess.check_output(
        ["git", "rev-parse", "--short", "HEAD"], text=True
    )
    return {
        "command": " ".join(["python", *sys.argv]),
        "commit": commit.strip(),
        "date": datetime.date.today().isoformat(),
        "machine": f"{len(os.sched_getaffinity(0))} CPU cores, {platform.machine()}",
    }
