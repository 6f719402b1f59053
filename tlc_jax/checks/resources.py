"""Checks of memory, disks and caches."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
from pathlib import Path

from tlc_jax.checks.check import Failed, Plan
from tlc_jax.config import Config
from tlc_jax.core.compiled import FOLDER, VARIABLE
from tlc_jax.core.errors import UserError, one_line

_LEAST = 1e9  # bytes of memory and of each disk, whatever the run
_STATE = 12  # bytes of a parameter: itself and two moments, all float32
_UPDATE = 16  # with its gradient
_WATCH = "ps -eo rss,pid,comm --sort=-rss | head"


def memory(plan: Plan) -> str:
    """Whether the host has memory for the largest model: on a CPU for state, gradient and the copy that a
    save makes, beside an accelerator for that copy. Activations, which depend on the batch, come on top."""
    import jax

    from tlc_jax.core.free_memory import free_memory

    each = _STATE + (_UPDATE if jax.default_backend() == "cpu" else 0)
    largest = max(parameters(config, plan.init_from) for config in plan.models)
    need, free = largest * each + _LEAST, free_memory()
    if free < need:
        raise Failed(
            f"{_size(free)} of memory are free, and a model of {largest:,} parameters needs {_size(need)} at "
            "least: end other programs, or take a smaller model or a larger machine",
            _WATCH,
        )
    return f"{_size(free)} free; the largest model has {largest:,} parameters, {_size(largest * each)} in use"


def disk(plan: Plan) -> str:
    """Whether the checkpoints that are kept, and one that is being written, fit beside what is there."""
    from tlc_jax.data import cache
    from tlc_jax.storage.paths import is_remote, parse_path

    need: dict[Path, float] = {}
    for config in plan.models:
        need.setdefault(cache.root(config.data.cache_dir), 0)
        workdir = parse_path(plan.workdir or "runs")
        if not is_remote(workdir):
            kept = (config.checkpoint.keep + 1) * _STATE * parameters(config, plan.init_from)
            need[Path(workdir)] = need.get(Path(workdir), 0) + kept
    disks: dict[int, tuple[Path, float]] = {}
    for folder, size in need.items():
        there = _existing(folder)
        disk = there.stat().st_dev
        first, before = disks.get(disk, (there, _LEAST))
        disks[disk] = first, before + size
    return "; ".join(_room(folder, size) for folder, size in disks.values())


def _room(folder: Path, need: float) -> str:
    free = shutil.disk_usage(folder).free
    if free < need:
        raise Failed(
            f"{_size(free)} are free on the disk of {folder}, and {_size(need)} are needed: make room, or "
            "give a folder on another disk",
            f"du -xh --max-depth 2 {shlex.quote(str(folder))} | sort -h | tail",
        )
    return f"{_size(free)} free on the disk of {folder}, {_size(need)} needed"


def caches(plan: Plan) -> str:
    """Whether compiled programs and prepared data can be kept for the next start."""
    from tlc_jax.data import cache
    from tlc_jax.storage.writable import try_folder

    compiled = os.environ.get(VARIABLE)
    if compiled is None:
        raise Failed(f"no compiled programs are kept: {FOLDER} cannot be written", _elsewhere())
    try:
        try_folder(Path(compiled))
    except (OSError, UserError) as error:
        why = f"no compiled programs are kept: {compiled} cannot be written ({one_line(error)})"
        raise Failed(why, _elsewhere()) from error
    folders = dict.fromkeys(cache.root(config.data.cache_dir) for config in plan.configs)
    for folder in folders:
        try:
            try_folder(folder)
        except (OSError, UserError) as error:
            why = f"prepared data cannot be kept: {folder} cannot be written ({one_line(error)})"
            options = {f"{plan.stage(config)}data.cache_dir": "data_cache" for config in plan.configs}
            raise Failed(why, plan.again(**options)) from error
    return f"compiled programs in {compiled}; prepared data in {', '.join(map(str, folders))}"


def parameters(config: Config, init_from: str | None = None) -> int:
    """The number of parameters of the model, with two classes if it is a classifier."""
    from tlc_jax.core import tree
    from tlc_jax.runs.named_begin import parse_init_from
    from tlc_jax.tasks.kinds import kind_of
    from tlc_jax.training.state import abstract_params

    resolved = config
    if init_from:
        with contextlib.suppress(UserError):  # the check of the data says so
            resolved = parse_init_from(init_from).resolve(config)
    return tree.count(abstract_params(kind_of(resolved).objective(resolved, 2)))


def _existing(folder: Path) -> Path:
    """The folder itself, or the nearest one above it that is there."""
    return next(path for path in (folder.absolute(), *folder.absolute().parents) if path.is_dir())


def _elsewhere() -> str:
    return f"export {VARIABLE}=$PWD/compiled"


def _size(size: float) -> str:
    """`1.2 GB`, `340 MB`."""
    return f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:,.0f} MB"
