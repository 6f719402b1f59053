"""Timing files of `bench step-time`, read back and matched with the configs whose updates they timed."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import Field

from tlc_jax.config import Config
from tlc_jax.core.errors import UserError
from tlc_jax.core.invocation import command
from tlc_jax.core.schema import TypedDict, checked, record
from tlc_jax.runs.step_time import timed
from tlc_jax.storage.paths import AnyPath
from tlc_jax.storage.untrusted import read_json

Timings = Mapping[AnyPath, Mapping[str, Any]]


@record
class _Timing(TypedDict):
    mean_seconds: Annotated[float, Field(gt=0)]
    devices: Annotated[str, Field(max_length=1000)]


def read_timings(paths: Sequence[AnyPath], option: str) -> dict[AnyPath, dict[str, Any]]:
    """The timings of files that were given by an option. UserError for other files, and where two are of
    different devices, whose seconds do not compare."""
    timings = {path: _read(path, option) for path in paths}
    for (one, first), (other, second) in itertools.pairwise(timings.items()):
        if first["devices"] != second["devices"]:
            raise UserError(
                f"{one} was measured on {first['devices']} and {other} on {second['devices']}, whose seconds "
                f"do not compare: measure all on the same devices, with {command('bench step-time')}"
            )
    return timings


def timings_of(config: Config, timings: Timings) -> list[AnyPath]:
    """The timing files of a config's model, task, batch size and length."""
    program = json.loads(json.dumps(timed(config)))
    return [path for path, timing in timings.items() if program.items() <= timing.items()]


def _read(path: AnyPath, option: str) -> dict[str, Any]:
    try:
        return dict(checked(read_json(path), _Timing))
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise UserError(
            f"{option} {path} is not a timing file ({why}): make one with {command('bench step-time')}"
        ) from error
