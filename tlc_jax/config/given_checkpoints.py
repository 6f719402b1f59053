"""The pretrained checkpoints of a study, as a user gives them and as the study records them."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from tlc_jax.config.validation import check

_RECORDED = re.compile(r"(\d+x\d+(?:-[\w.-]+)?)=([0-9a-f]{64})=(.+)", re.DOTALL)


@dataclass(frozen=True)
class GivenCheckpoint:
    """A checkpoint that a study begins with. `reference` is what `--init-from` takes. `size` and
    `fingerprint`, of all weights, are '' until the checkpoint has been read."""

    reference: str
    size: str = ""
    fingerprint: str = ""

    def __str__(self) -> str:
        return f"{self.size}={self.fingerprint}={self.reference}" if self.size else self.reference

    @property
    def name(self) -> str:
        """The reference without the folders that lead to it, such as hf:FOLDER."""
        scheme = "hf:" if self.reference.startswith("hf:") else ""
        return scheme + self.reference.removeprefix(scheme).rstrip("/").rpartition("/")[2]


def parse_given(text: str) -> GivenCheckpoint:
    """Of a reference, such as hf:FOLDER, or of what `str` makes of a checkpoint that has been read."""
    check(bool(text), "pretrained has an empty value: give hf:FOLDER, a run or an artifact")
    if recorded := _RECORDED.fullmatch(text):
        return GivenCheckpoint(recorded[3], size=recorded[1], fingerprint=recorded[2])
    return GivenCheckpoint(text)


def without_folders(given: GivenCheckpoint) -> GivenCheckpoint:
    """The checkpoint with the last part of its path alone: what may be handed to others."""
    return replace(given, reference=given.name)
