"""study.json: the config of a study, which alone resumes it. A study grows by a config that asks for more."""

from __future__ import annotations

import contextlib
import dataclasses
import shlex
import time
from typing import Any

from tlc_jax.artifacts.artifact import is_artifact
from tlc_jax.compression.methods import STEPS
from tlc_jax.compression.steps import Step
from tlc_jax.config import Config
from tlc_jax.config.saved import as_begun, config_from_json, differences, flat
from tlc_jax.config.study_options import StudyConfig
from tlc_jax.core import stopping
from tlc_jax.core.errors import UserError
from tlc_jax.core.invocation import command
from tlc_jax.data.location import same_path
from tlc_jax.storage.lock import InUse, locked
from tlc_jax.storage.paths import AnyPath, create_file, make_folder
from tlc_jax.storage.run_directory import STUDY, RunDir, json_text, write_json
from tlc_jax.storage.untrusted import read_json
from tlc_jax.studies.identified_checkpoints import identified
from tlc_jax.studies.same_data import SameData


def read_config(workdir: AnyPath) -> StudyConfig | None:
    """The config of the study in a folder; None where there is none."""
    if not (workdir / STUDY).is_file():
        return None
    config, recorded, _ = _read(workdir / STUDY)
    try:
        steps = tuple(_step(**fields) for fields in recorded)
    except (KeyError, ValueError, TypeError) as error:
        raise UserError(
            f"{workdir / STUDY} has compression.steps that this version does not know ({error}): give "
            "--config with the study's config document"
        ) from error
    return dataclasses.replace(config, compression=dataclasses.replace(config.compression, steps=steps))


def _step(step: str, **options: Any) -> Step:
    return config_from_json(options, {kind.__name__: kind for kind in STEPS}[step])


GROWS = (
    *("sizes", "pretrained", "oversized", "variants", "memory_of", "seeds", "distillations", "bits"),
    *("sparsities", "compressed_at", "errors", "recovery"),
)
"""Fields to whose values new ones may be added; one that says yes or no may become yes, and one
that is not set may be set."""
_OLDER = "results.jsonl"
_PAUSE = 0.1  # seconds between tries to lock


def open_folder_of(config: StudyConfig, workdir: AnyPath, same_data: SameData) -> StudyConfig:
    """Make the study's folder, or check that its study is this one, perhaps with more sizes, variants, seeds,
    bits or sparsities. Returns the config of the study with all that were ever asked for, and the values of
    older studies in fields that they did not have. UserError if the folder holds anything else."""
    record = workdir / STUDY
    if not record.exists():
        refuse_others(workdir)
        _refuse_full(workdir)
        config = identified(config)
        make_folder(workdir)
        if create_file(record, json_text(_fields(config))):
            return config
    before, _, _ = _read(record)
    config = _as_recorded(config, record, same_data)
    if any(getattr(config, name) != getattr(before, name) for name in GROWS):
        with contextlib.ExitStack() as held:
            _wait_to_lock(workdir / "leases" / STUDY, held)
            config = _as_recorded(config, record, same_data)  # with what others have added since
            write_json(record, _fields(config))
    return config


def _wait_to_lock(folder: AnyPath, held: contextlib.ExitStack) -> None:
    """Lock a folder until `held` is closed, as soon as no other process has locked it."""
    make_folder(folder)
    while True:
        try:
            held.enter_context(locked(folder, wait=False))
            return
        except InUse:  # for as long as it takes to write a file
            stopping.check()
            time.sleep(_PAUSE)


def joined_config(config: StudyConfig, workdir: AnyPath, same_data: SameData) -> StudyConfig:
    """The config that `open_folder_of` returns and records; writes nothing."""
    if (workdir / STUDY).exists():
        return _as_recorded(config, workdir / STUDY, same_data)
    refuse_others(workdir)
    _refuse_full(workdir)
    return identified(config)


def _refuse_full(workdir: AnyPath) -> None:
    if _holds_others(workdir) and not (workdir / STUDY).exists():  # another process may begin it just now
        raise UserError(f"--workdir {workdir} is not empty and holds no study: give a new folder")


def _holds_others(workdir: AnyPath) -> bool:
    """Whether a path is a file, or a folder that holds more than a study's config, perhaps half written."""
    if not workdir.exists():
        return False
    return not workdir.is_dir() or any(not path.name.startswith(STUDY) for path in workdir.iterdir())


def _fields(config: StudyConfig) -> dict[str, Any]:
    fields = dataclasses.asdict(config)
    fields["compression"]["steps"] = _recorded_steps(config)
    return fields


def refuse_others(workdir: AnyPath) -> None:
    """UserError if a folder is an artifact or a run directory."""
    if is_artifact(workdir):
        raise UserError(f"--workdir {workdir} is an artifact: give a new folder, or that of a study")
    if RunDir(workdir).config.exists():
        run = f"{command('train')} --workdir {shlex.quote(str(workdir))}"
        raise UserError(f"--workdir {workdir} holds a run: {run} resumes it; give a study a new folder")


def _as_recorded(config: StudyConfig, record: AnyPath, same_data: SameData) -> StudyConfig:
    """The config of a study that has begun; UserError naming each field that is not the study's."""
    before, steps, fields = _read(record)
    config = identified(config, before.pretrained)
    grown = _grown(config, before)
    stages = {name: getattr(config, name) for name in ("train", "finetune")}
    stages = {name: now and as_begun(now, fields[name]) for name, now in stages.items() if fields.get(name)}
    try:
        config = dataclasses.replace(config, **stages, **grown)
    except ValueError as error:  # sizes of one do not fit the other
        raise UserError(f"--workdir {record.parent} holds a study of another config: {error}") from error
    respelt = {
        name: now and _respelt(name, now, getattr(before, name), same_data) for name, now in stages.items()
    }
    compared = dataclasses.replace(config, **respelt)
    now = {**flat(compared), "compression.steps": _recorded_steps(config)}
    old = {**flat(dataclasses.replace(before, **grown)), "compression.steps": steps}
    if changed := differences(now, old, "the study"):
        study = f"{command('study')} --workdir {shlex.quote(str(record.parent))}"
        raise UserError(
            f"--workdir {record.parent} holds a study of another config: {changed}. Give a new folder, or "
            f"resume the study with the config that it has: {study}"
        )
    return config


def _grown(config: StudyConfig, before: StudyConfig) -> dict[str, Any]:
    """The values of both studies in the fields that may grow, those of `before` first."""
    grown: dict[str, Any] = {}
    for name in GROWS:
        old, new = getattr(before, name), getattr(config, name)
        if isinstance(old, bool):
            grown[name] = old or new
            continue
        if name == "recovery":
            if old is None or new is None:
                grown[name] = old or new
            continue
        if old != new and name == "seeds":
            old, new = before.training_seeds, config.training_seeds
        elif name == "pretrained":  # the same weights may be at another path now
            now = {each.fingerprint: str(each) for each in config.given}
            old = tuple(now.get(each.fingerprint, str(each)) for each in before.given)
        elif old != new and name == "compressed_at":
            old, new = before.compressed_marks, config.compressed_marks
        grown[name] = (*old, *(value for value in new if value not in old))
    return grown


def _respelt(stage: str, config: Config, before: Config, same_data: SameData) -> Config:
    """The config with the study's spelling of the path of its data, where both lead to the same files."""
    if same_path(config.data.dir, before.data.dir) or same_data.are_sources(stage, config):
        return dataclasses.replace(config, data=dataclasses.replace(config.data, dir=before.data.dir))
    return config


def _read(record: AnyPath) -> tuple[StudyConfig, list[Any], dict[str, Any]]:
    """The config of a study without the further steps of its compression, these steps as they are recorded,
    and all fields as the version that began the study wrote them."""
    if (record.parent / _OLDER).exists():
        raise UserError(
            f"--workdir {record.parent} holds a study of an earlier version, which kept its results in "
            f"{_OLDER}; this version cannot resume it: give a new folder"
        )
    try:
        fields, steps = read_json(record), list[Any]()
        if isinstance(fields, dict) and isinstance(fields.get("compression"), dict):
            steps = fields["compression"].get("steps", steps)
            fields["compression"] |= {"steps": []}
        return config_from_json(fields, StudyConfig), steps, fields
    except (ValueError, TypeError) as error:
        raise UserError(
            f"{record} is not the config of a study ({error}): restore it, or name another folder"
        ) from error


def _recorded_steps(config: StudyConfig) -> list[Any]:
    """The further steps of the compression as study.json holds them: with their names, not as instances."""
    steps: list[Any] = config.compression.recorded().get("steps", [])
    return steps
