"""What every result file says of how it was made."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
import sys


def about() -> dict[str, str]:
    """Command, commit, date, and the machine as this process may use it."""
    return {
        "command": " ".join(["python", *sys.argv]),
        "commit": subprocess.check_output(["git", "rev-parse", "--short", "HEAD"], text=True).strip(),
        "date": datetime.date.today().isoformat(),
        "machine": f"{len(os.sched_getaffinity(0))} CPU cores, {platform.machine()}",
    }
