"""Orbax: the items of a checkpoint, written in the background and read.

Imported where a checkpoint is first written or read, since importing Orbax takes as long as jax does.
"""

from __future__ import annotations

from typing import Any

import absl.logging
import jax
import orbax.checkpoint as ocp
from orbax.checkpoint._src.metadata import array_metadata_store  # in no public module

from tlc_jax.storage.paths import AnyPath

ITEMS = ("params", "optimizer", "meta")
_SLICED = 1 << 20
"""Bytes from which on each device writes a slice of an array that all hold: small slices save no time."""

absl.logging.set_verbosity(absl.logging.FATAL)  # our own sentences say what Orbax logs with stack traces
ocp.type_handlers.register_type_handler(
    jax.Array,
    ocp.type_handlers.ArrayHandler(
        min_slice_bytes_for_replica_parallel=_SLICED, array_metadata_store=array_metadata_store.Store()
    ),
    override=True,
)


class Writer:
    """Writes one checkpoint at a time, in the background."""

    def __init__(self):
        # folders are made at once: where one cannot be made, no thread is left waiting for it
        options = ocp.options.AsyncOptions(create_directories_asynchronously=False)
        self._orbax = ocp.AsyncCheckpointer(ocp.CompositeCheckpointHandler(*ITEMS), async_options=options)

    def begin(self, path: AnyPath, params: Any, optimizer: Any, meta: dict[str, Any]) -> None:
        """Copy the arrays and begin to write them, with `meta` (JSON), into the new folder `path`."""
        args = ocp.args.Composite(
            params=ocp.args.StandardSave(params),  # type: ignore[call-arg]
            optimizer=ocp.args.StandardSave(optimizer),  # type: ignore[call-arg]
            meta=ocp.args.JsonSave(meta),  # type: ignore[call-arg]
        )
        self._orbax.save(path, args=args)

    def finish(self) -> None:
        """Wait until everything is written. Raises what went wrong."""
        self._orbax.wait_until_finished()

    def close(self) -> None:
        self._orbax.close()


def read_items(path: AnyPath, **like: Any) -> dict[str, Any]:
    """Items of the checkpoint at `path`, each with the structure, shapes, types and shardings of an abstract
    tree."""
    args = {item: ocp.args.StandardRestore(tree) for item, tree in like.items()}  # type: ignore[call-arg]
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler(*ITEMS)) as orbax:
        return orbax.restore(path, args=ocp.args.Composite(**args))
