"""Finding and reading checkpoints: what is restored is what was saved, or it is refused.

A step counts only once it is sealed (`storage/sealed.py`): Orbax alone restores a flipped bit silently, and
lists steps whose files are partly gone. Parameters can be loaded alone, which is all that evaluation needs.
Reading changes nothing, and works beside a run that is training. `saving.py` saves.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax

from tlc_jax.core.errors import UserError, one_line
from tlc_jax.core.schema import Count, Name, NotRequired, TypedDict, checked, record
from tlc_jax.core.stacked import Tensors
from tlc_jax.core.tree import Params, flatten
from tlc_jax.parallel.hosts import leader
from tlc_jax.runs.plain_path import plain_path
from tlc_jax.runs.stored import check_files, check_stored, read_masks
from tlc_jax.storage.paths import AnyPath, absolute
from tlc_jax.storage.sealed import MANIFEST, Damaged, is_sealed, open_sealed, read_manifest
from tlc_jax.storage.untrusted import read_json
from tlc_jax.training.state import TrainState

_RECORD = "meta/metadata"  # where Orbax puts the JSON of the item
_TRIES = 20  # a run that is training removes old steps


class Gone(UserError):
    """A checkpoint was removed by its run while it was being read."""


@dataclass(frozen=True)
class Restored:
    """A state with its step and `meta` (JSON; empty for a new state); `refused` says what was wrong with
    newer checkpoints."""

    step: int
    state: TrainState
    meta: dict[str, Any] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)


@record
class Step(TypedDict):
    """What the manifest of a step says about it."""

    step: Count
    marks: list[Name]
    masked: NotRequired[bool]


@record
class _Record(TypedDict):
    """What a run needs to resume, beside its arrays."""

    training_seconds: NotRequired[float]
    total_seconds: NotRequired[float]
    meter: NotRequired[dict[str, float]]
    data: NotRequired[str]
    config: NotRequired[str]


def is_step(name: str) -> bool:
    """Whether this is the name of a checkpoint's folder."""
    return re.fullmatch("0|[1-9][0-9]{0,9}", name) is not None and int(name) < 2**31


def whole_steps(folder: AnyPath, mark: str | None = None) -> list[int]:
    """The sealed steps in `folder`, oldest first; with a `mark`, the one that was kept for it, or none."""
    if not folder.is_dir():
        return []
    steps = sorted(int(path.name) for path in folder.iterdir() if is_step(path.name) and is_sealed(path))
    return steps if mark is None else [step for step in steps if mark in marks_of(folder, step)]


def missing(folder: AnyPath, mark: str | None) -> UserError:
    """Says that `folder` holds no checkpoint of the mark, or none at all, and what to give instead."""
    if mark is None:
        return UserError(f"{folder} holds no checkpoint: give the folder of a run that has saved one")
    marks = sorted({name for step in whole_steps(folder) for name in marks_of(folder, step)})
    return UserError(f"{folder} holds no mark {mark}: it has {', '.join(marks) or 'none'}")


def marks_of(folder: AnyPath, step: int) -> list[str]:
    """The marks that a step is kept for; none of a damaged one, which is refused when it is asked for."""
    try:
        return read_step(folder / str(step))["marks"]
    except Damaged:
        return []


def read_step(path: AnyPath) -> Step:
    """What the manifest of the checkpoint at `path` says; Damaged if it is not a checkpoint's."""
    return _about(read_manifest(path), path)


def restore_state(folder: AnyPath, like: TrainState, mark: str | None = None) -> Restored | None:
    """The newest whole checkpoint in `folder`, or that of a mark, with the shapes, types and shardings of
    `like` (which may be abstract); None if there is none."""
    abstract = jax.tree.map(_abstract, like)

    def read(path: AnyPath) -> tuple[Any, Any, dict[str, Any]]:
        values = _read_arrays(path, params=abstract.params, optimizer=abstract.optimizer)
        return values["params"], values["optimizer"], read_record(path)

    newest = _newest(folder, "", read, mark)
    if newest is None:
        return None
    step, (params, optimizer, meta), refused = newest
    count = jax.device_put(jax.numpy.int32(step), like.step.sharding)
    return Restored(step, TrainState(count, params, optimizer), meta, refused)


def restore_model(
    folder: AnyPath,
    like: Params,
    warn: Callable[[str], None],
    mark: str | None = None,
    steps: list[int] | None = None,
) -> tuple[Params, Tensors, int]:
    """(parameters, masks by path, step) of the newest checkpoint in `folder` whose parameters are whole, of
    that of a mark, or of the newest of `steps`. Parameters have the shapes, types and shardings of `like`.

    Only the files of the parameters are needed, and those of the masks of a masked optimizer. `warn` is
    called with a sentence for each newer one that is damaged.
    """
    abstract = jax.tree.map(_abstract, like)

    def read(path: AnyPath) -> tuple[Params, Tensors]:
        params, masks = _read_arrays(path, params=abstract)["params"], {}
        if read_step(path).get("masked"):
            open_sealed(path, "optimizer/")
            masks = read_masks(path / "optimizer", flatten(abstract))
        return params, masks

    newest = _newest(folder, "params/", read, mark, steps)
    if newest is None:
        if steps is not None:
            raise Gone(f"{folder} holds no checkpoint of step {steps[-1]:,} any more: its run removed it")
        raise missing(folder, mark)
    step, (params, masks), refused = newest
    for text in refused:
        warn(f"{text}; step {step:,} is used instead")
    return params, masks, step


def saved_data_identity(folder: AnyPath) -> str | None:
    """The identity of the data of the newest checkpoint in `folder`; None if there is none."""
    step, _ = _choose(folder, "meta/", None, None)
    return None if step is None else read_record(folder / str(step)).get("data")


def read_record(path: AnyPath) -> dict[str, Any]:
    """What the checkpoint at `path` holds beside its arrays. Damaged where no run writes such a record."""
    try:
        return checked(read_json(path / _RECORD), _Record)  # type: ignore[return-value]
    except FileNotFoundError as error:
        raise Damaged(path / _RECORD, "is missing") from error
    except (OSError, ValueError) as error:
        raise Damaged(path / _RECORD, f"is not what a run writes ({one_line(error)})") from error


def _read_arrays(path: AnyPath, **like: Any) -> Any:
    """Items of a checkpoint, as abstract trees describe them; ValueError or Damaged where it has others."""
    check_files(path, 0, inside=False)  # Orbax reads some of them
    for item, tree in like.items():
        check_stored(path / item, tree)
    from tlc_jax.runs.orbax_items import read_items

    return read_items(path, **like)


def _abstract(array: jax.Array | jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=array.sharding)


def _newest(
    folder: AnyPath,
    part: str,
    read: Callable[[AnyPath], Any],
    mark: str | None = None,
    steps: list[int] | None = None,
) -> tuple[int, Any, list[str]] | None:
    """(step, result of `read`, what was wrong with newer ones) of the newest step whose `part` is whole."""
    folder = absolute(folder)
    for _ in range(_TRIES):
        step, refused = leader.decide(lambda: _choose(folder, part, mark, steps))
        if step is None:
            return None
        path = folder / str(step)
        try:
            with plain_path(folder) as plain:
                return step, read(plain / str(step)), refused
        except (MemoryError, jax.errors.JaxRuntimeError):
            raise
        except Exception as error:  # Orbax raises many for files that vanish or hold something else
            if not is_sealed(path):
                continue
            if isinstance(error, Damaged):
                raise UserError(f"the checkpoint of step {step:,} is damaged: {error}") from error
            raise UserError(f"the checkpoint {path} is of another model: {one_line(error)}") from error
    raise UserError(f"the run of {folder} removes its checkpoints faster than they can be read: try again")


def _choose(
    folder: AnyPath, part: str, mark: str | None, steps: list[int] | None
) -> tuple[int | None, list[str]]:
    """The newest step whose `part` is whole, or None, and what was wrong with newer ones."""
    for _ in range(_TRIES):
        listed = whole_steps(folder, mark) if steps is None else steps
        refused, vanished = [], False
        for step in reversed(listed):
            path = absolute(folder) / str(step)
            try:
                _check_step(open_sealed(path, part), path)
            except Damaged as damage:
                if is_sealed(path):
                    refused.append(f"the checkpoint of step {step:,} is damaged: {damage}")
                else:
                    vanished = True  # its run removed it meanwhile
                continue
            return step, refused
        if refused:
            raise UserError(
                f"no checkpoint in {folder} is whole ({'; '.join(refused)}): put a copy back, or begin "
                "again in a new folder"
            )
        if not vanished or steps is not None:
            break
    return None, []


def _about(manifest: dict[str, Any], path: AnyPath) -> Step:
    try:
        return checked(manifest, Step)
    except ValueError as error:
        raise Damaged(path / MANIFEST, f"is not of a checkpoint ({error})") from error


def _check_step(manifest: dict[str, Any], path: AnyPath) -> None:
    """Damaged where the folder has the name of another step, for whose state it would be taken."""
    if (step := _about(manifest, path)["step"]) != int(path.name):
        raise Damaged(path, f"holds step {step:,}")
