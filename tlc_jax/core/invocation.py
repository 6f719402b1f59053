"""How this process was started, so that messages name a command as its user calls it."""

from __future__ import annotations

import sys
from pathlib import Path


def command(name: str) -> str:
    """A command such as `compress` or `bench step-time`, to be pasted with its options after it.

    `tlc NAME` in a process that began as `tlc`, else `python -m tlc_jax.NAME`.
    """
    program = Path(sys.argv[0])
    if program.stem == "tlc":
        return f"tlc {name}"
    if program.parts[-2:] == ("tlc_jax", "__main__.py"):
        return f"python -m tlc_jax {name}"
    return f"python -m tlc_jax.{name}"
