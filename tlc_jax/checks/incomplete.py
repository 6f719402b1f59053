"""What doctor answers where the package is missing that parses command lines, or nothing is installed yet."""

from __future__ import annotations

import dataclasses
import json
import sys
from typing import NoReturn

from tlc_jax.checks import installation
from tlc_jax.checks.check import INSTALL, Check, Plan, Result, install_again, result_of
from tlc_jax.core.errors import EXIT_FAILED, one_line


def answer(error: ImportError) -> NoReturn:
    """Print what is missing and what to install, as doctor prints any failure, and end the process."""
    check = Check("packages", installation.packages, INSTALL)
    result = result_of(check, Plan("train", (), (), ()))
    if result.ok:  # all metadata are there
        result = Result(check.name, False, one_line(error), install_again(error.name or ""))
    if "--json" in sys.argv:
        print(json.dumps({"ok": False, "checks": [dataclasses.asdict(result)]}))
    else:
        print(f"FAILED  {result.name}  {result.detail}\nnext: {result.hint}")
    sys.exit(EXIT_FAILED)
