"""The options of `python -m tlc_jax.bench`. Imports no jax."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Optional

import tyro

from tlc_jax.config.run import Config

USAGE = """usage: python -m tlc_jax.bench step-time|compile --config C [options]

  step-time  seconds of an update, with the largest micro-batch that fits (paper 2.2)
  compile    whether an update fits TPUs that are not here, and what they send each other

step-time --help and compile --help show the options"""


@dataclasses.dataclass(frozen=True)
class StepTime:
    """Time 100 updates once their time has settled, with the largest micro-batch that fits (paper 2.2).

    It fits in --memory-gib (the paper's V100: 16), or in what the device says that it has. Where neither is
    known, on a CPU, the config's micro_batch is timed.
    """

    config: str
    """A config document: a path, or the bare name of one in configs/. Its fields follow as options."""
    settings: Annotated[Config, tyro.conf.arg(name="")]
    output: str = "step_time.json"
    """The timing file; `python -m tlc_jax.report --step-time` draws curves over it."""


@dataclasses.dataclass(frozen=True)
class Compile:
    """Compile an update for TPUs that are not here (extra `tpu`): peak memory, communication, FLOPs.

    Exit code 1, with the compiler's own sentence, where it does not fit, or not in --memory-gib. With
    --micro-batch auto it finds the largest that fits, a few compilations later.
    """

    config: str
    """A config document: a path, or the bare name of one in configs/. Its fields follow as options."""
    settings: Annotated[Config, tyro.conf.arg(name="")]
    topology: str
    """v3:2x2 (a v3-8), v3:4x4, v5e:2x4, v6e:2x4, v5p:2x2x2 ..."""
    output: Optional[str] = None
    """Write what was found there, too (JSON)."""
