"""Completion by bash: tyro's script, which readline's file names take over from where it knows nothing."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tlc_jax.core.errors import UserError

WRITE = "--tyro-write-completion"
_COMPLETED = "  # Check for special path completion marker."
_FILES = """  # Nothing from above: readline completes the names of files.
  if [[ -z "$completions" || "$completions" == "__TYRO_COMPLETE_FILES__" ]]; then
    COMPREPLY=()
    return 0
  fi
"""


def write_completion(app: Callable[..., Any], shell: str, target: str) -> None:
    """Write a script by which a shell completes commands, options, choices and files; `-`: print it. `app`
    parses command lines with tyro."""
    if shell not in (shells := ("bash", "zsh", "fish", "tcsh")):
        raise UserError(f"{WRITE} {shell}: give one of the shells {', '.join(shells)}")
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        try:
            app(args=[WRITE, shell, "-"])
        except SystemExit as end:
            if end.code:
                raise
    script = printed.getvalue()
    if shell == "bash":  # without this, what it knows nothing of is replaced by an empty word
        script = script.replace("complete -F ", "complete -o default -F ")
        script = script.replace(_COMPLETED, _FILES + _COMPLETED)
    if target == "-":
        print(script)
    else:
        Path(target).write_text(script, encoding="utf-8")
