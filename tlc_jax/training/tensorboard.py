"""The lines of metrics.jsonl as event files for TensorBoard (https://www.tensorflow.org/tensorboard).

tensorboardX writes the records. Its SummaryWriter is not used: where a disk is full, its thread ends without
a word, and the program then waits forever for a place in its queue.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tlc_jax.config import Config
from tlc_jax.core.errors import UserError
from tlc_jax.storage.paths import AnyPath, is_remote
from tlc_jax.training.trackers import Line, Tracker

FOLDER = "tensorboard"
"""Where the event file is, in the run directory."""
_SUFFIX = ".tlc_jax"


def check_tensorboard(config: Config, workdir: AnyPath) -> None:
    """UserError where the config asks for event files that cannot be written to `workdir`."""
    if not config.tensorboard:
        return
    _library()
    if is_remote(workdir):
        raise UserError(
            f"--tensorboard writes to a disk, and --workdir {workdir} is a bucket: give --no-tensorboard, "
            "metrics.jsonl has the same lines"
        )


class TensorBoard(Tracker):
    """Writes the numbers of each line, by their names. The file is written anew at every start, from the
    lines that the run has, so no step is missing or repeated."""

    def begin(self, workdir: AnyPath, lines: Sequence[Line]) -> None:
        library, folder = _library(), Path(workdir) / FOLDER
        folder.mkdir(exist_ok=True)
        for old in folder.glob(f"events.out.tfevents.*{_SUFFIX}"):
            old.unlink()
        # TensorBoard reads the files of a folder in the order of their names
        path = folder.absolute() / f"events.out.tfevents.{int(time.time()):010d}{_SUFFIX}"
        self._records = library.RecordWriter(str(path))
        self._proto = library.proto
        self._began = time.time() - (lines[-1]["total_seconds"] if lines else 0.0)
        self._steps: dict[str, int] = {}  # the last step of each name
        self._write(file_version="brain.Event:2", wall_time=self._began)
        # what TensorBoard has read of an older file is void
        log = self._proto.event_pb2.SessionLog(status=self._proto.event_pb2.SessionLog.START)
        self._write(session_log=log, step=0, wall_time=self._began)
        for line in lines:
            self._write_line(line)
        self._records.flush()

    def add(self, line: Line) -> None:
        self._write_line(line)
        self._records.flush()

    def close(self) -> None:
        self._records.close()

    def _write_line(self, line: Line) -> None:
        step, value = line["step"], self._proto.summary_pb2.Summary.Value
        values = [
            value(tag=name, simple_value=number)
            for name, number in line.items()
            if name != "step" and isinstance(number, int | float) and self._steps.get(name) != step
        ]
        self._steps |= {each.tag: step for each in values}
        summary = self._proto.summary_pb2.Summary(value=values)
        self._write(summary=summary, step=step, wall_time=self._began + line["total_seconds"])

    def _write(self, **fields: Any) -> None:
        self._records.write(self._proto.event_pb2.Event(**fields).SerializeToString())


def _library() -> Any:
    try:
        import tensorboardX
        import tensorboardX.proto.event_pb2
        import tensorboardX.proto.summary_pb2
    except ImportError as error:
        raise UserError(
            "--tensorboard needs tlc_jax with its extra tensorboard: pip install 'tlc-jax[tensorboard]'; "
            "--no-tensorboard trains without it"
        ) from error
    return tensorboardX
