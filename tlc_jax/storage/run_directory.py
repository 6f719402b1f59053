"""A run directory documents a run completely: what was requested, the environment, and the results.

config.json       the resolved config, which alone rebuilds the model
environment.json  date, command, versions and devices of every start
tokenizer.json    the tokenizer
special_tokens_map.json    names of its special tokens, where they are not those of our own encoders
data/             the prepared data and their manifest
metrics.jsonl     one JSON object a line
checkpoints/      the newest checkpoints, and those of marks and of the best evaluation
tensorboard/      the numbers of metrics.jsonl as an event file, if the config asks for it
lock              held by the process that runs here
"""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
from collections.abc import Collection
from typing import Any

from tlc_jax.config import FREE_ON_RESUME, Config
from tlc_jax.config.saved import config_from_json, differences, flat
from tlc_jax.core.errors import UserError, one_line
from tlc_jax.core.invocation import command
from tlc_jax.core.printable import printable
from tlc_jax.storage.paths import AnyPath, is_remote, parse_path, write_text
from tlc_jax.storage.sealed import is_sealed
from tlc_jax.storage.untrusted import read_json

LOCK = "lock"
STUDY = "study.json"
"""The config of a study, whose folder holds run directories."""
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
    def special_tokens(self) -> AnyPath:
        return self.root / "special_tokens_map.json"

    def tokenizer_files(self) -> tuple[AnyPath, ...]:
        """The tokenizer, and the names of its special tokens where they are there."""
        return (self.tokenizer, *([self.special_tokens] if self.special_tokens.is_file() else []))

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
        """Whether there is a run. UserError if there is anything else: a run is not mixed with other
        files."""
        if self.config.is_file():
            return True
        if self.root.exists() and not self.root.is_dir():
            raise UserError(f"--workdir {self.root} is a file: give a new folder")
        if self.checkpoints.exists():
            raise UserError(f"--workdir {self.root} holds a run without its config.json: restore that file")
        if (self.root / STUDY).exists():
            study = f"{command('study')} --workdir {shlex.quote(str(self.root))}"
            raise UserError(f"--workdir {self.root} holds a study: {study} resumes it")
        if self.root.exists() and any(not _unbegun(path.name) for path in self.root.iterdir()):
            raise UserError(f"--workdir {self.root} is not empty and holds no run: give a new folder")
        return False

    def has_data(self) -> bool:
        """Whether its data are there. A bucket may hold a part of what was being copied there: they are
        whole with their manifest."""
        return is_sealed(self.data) if is_remote(self.data) else self.data.exists()

    def read_config(self) -> Config:
        """The config of the run, written by this version or an older one; UserError if it is missing or
        invalid."""
        try:
            return config_from_json(self.read_document())
        except (OSError, ValueError, TypeError, ArithmeticError) as error:
            reason = printable(one_line(error), 400)
            raise UserError(f"{self.config} is not the config of a run: {reason}") from error

    def read_document(self) -> dict[str, Any]:
        """The fields in config.json as the version that began the run wrote them, unchecked."""
        return read_json(self.config, _LARGEST_CONFIG)

    def check_same(self, config: Config, remark: str = "") -> None:
        """UserError naming every field in which `config` is not the run's, but for those that may change;
        `remark` follows them."""
        if changed := self.differences(config):
            raise UserError(
                f"--workdir {self.root} holds a run of another config: {changed}{remark}. Give a new "
                f"--workdir, or resume the run with the config that it has: {command('train')} --workdir "
                f"{shlex.quote(str(self.root))}"
            )

    def differences(self, config: Config, free: Collection[str] = ()) -> str:
        """One sentence on each field in which `config` is not the run's, but for those that may change when
        it is resumed and those that are `free`; '' if there is none."""
        return differences(flat(config), flat(self.read_config()), "the run", {*FREE_ON_RESUME, *free})


def _unbegun(name: str) -> bool:
    """Whether a run that was killed before its start may have left a file of this name."""
    return name == LOCK or re.fullmatch(r"config\.json\.\w+\.tmp", name) is not None


def split_mark(text: str) -> tuple[RunDir, str | None]:
    """The run directory and the mark of RUN@MARK; None for the mark of a plain RUN."""
    root, at, mark = text.rpartition("@")
    if at and not parse_path(text).exists():
        return RunDir(parse_path(root)), mark
    return RunDir(parse_path(text)), None


def write_json(path: AnyPath, value: Any) -> None:
    """Write a file of JSON atomically."""
    write_text(path, json_text(value))


def json_text(value: Any) -> str:
    """The text of a file of JSON."""
    return json.dumps(value, indent=1) + "\n"
