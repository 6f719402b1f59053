"""A run directory tells its whole story: what was asked for, with what, what came of it.

config.json       the resolved config; rebuilds the model with no other file
environment.json  one entry a start: date, command, versions, devices
tokenizer.json    the tokenizer
data/             the packed text and its manifest
metrics.jsonl     one JSON object a line
checkpoints/      the newest checkpoints
lock              held by the process that works here
"""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
from typing import Any

from tlc_jax.config import FREE_ON_RESUME, Config
from tlc_jax.config.saved import config_from_json, differences, flat
from tlc_jax.core.errors import UserError, one_line
from tlc_jax.core.printable import printable
from tlc_jax.storage.paths import AnyPath, make_folder, parse_path, write_text
from tlc_jax.storage.untrusted import read_json

LOCK = "lock"
_LARGEST_CONFIG = 1 << 20  # bytes


@dataclasses.dataclass(frozen=True)
class RunDir:
    """Paths inside a run directory."""

    root: AnyPath

    @property
    def config(self) -> AnyPath:
        return self.root / "config.json"

    @property
    def environment(self) -> AnyPath:
        return self.root / "environment.json"

    @property
    def tokenizer(self) -> AnyPath:
        return self.root / "tokenizer.json"

    @property
    def data(self) -> AnyPath:
        return self.root / "data"

    @property
    def metrics(self) -> AnyPath:
        return self.root / "metrics.jsonl"

    @property
    def checkpoints(self) -> AnyPath:
        return self.root / "checkpoints"

    def exists(self) -> bool:
        """Whether a run lives here. A folder with other content is refused rather than mixed with."""
        if self.config.is_file():
            return True
        if self.root.exists() and not self.root.is_dir():
            raise UserError(f"--workdir {self.root} is a file: give a new folder")
        if self.checkpoints.exists():
            raise UserError(f"--workdir {self.root} holds a run without its config.json: put it back")
        if self.root.exists() and any(not _unbegun(path.name) for path in self.root.iterdir()):
            raise UserError(f"--workdir {self.root} is not empty and holds no run: give a new folder")
        return False

    def read_config(self) -> Config:
        """The config of the run; UserError if there is none, or one that says what no config can."""
        try:
            return config_from_json(read_json(self.config, _LARGEST_CONFIG))
        except (OSError, ValueError, TypeError, ArithmeticError) as error:
            why = printable(one_line(error), 400)
            raise UserError(f"{self.config} is not the config of a run: {why}") from error

    def check_same(self, config: Config) -> None:
        """UserError naming every field in which `config` is not the run's, but for those that may change."""
        old, new = flat(self.read_config()), flat(config)
        if changed := differences(new, old, "the run", FREE_ON_RESUME):
            options = [
                f"--{name.replace('_', '-')} {shlex.quote(str(value))}"
                for name, value in old.items()
                if name in new and value != new[name] and name not in FREE_ON_RESUME
            ]
            raise UserError(
                f"--workdir {self.root} holds a run of another config: {changed}. Give a new --workdir, or "
                f"resume the run with its own config: {' '.join(options)}"
            )


def _unbegun(name: str) -> bool:
    """Whether a run that was killed before it began may have left such a file."""
    return name == LOCK or re.fullmatch(r"config\.json\.\w+\.tmp", name) is not None


def split_mark(text: str) -> tuple[RunDir, str | None]:
    """The run directory and the mark of RUN@MARK; of anything else, a run directory and None."""
    root, at, mark = text.rpartition("@")
    return (
        (RunDir(parse_path(root)), mark)
        if at and not parse_path(text).exists()
        else (RunDir(parse_path(text)), None)
    )


def write_json(path: AnyPath, value: Any) -> None:
    """Writes a whole file or none."""
    write_text(path, json.dumps(value, indent=1) + "\n")


def write_json_to(text: str, value: Any) -> None:
    """The same to where a user says, in a folder that need not be there."""
    place = parse_path(text)
    make_folder(place.parent)
    write_json(place, value)
