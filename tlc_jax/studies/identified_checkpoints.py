"""Pretrained checkpoints of a study: what each is called in it, and that it stays the one the study began
with."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Sequence

from rich.console import Console

from tlc_jax.config import Config
from tlc_jax.config.given_checkpoints import GivenCheckpoint, parse_given
from tlc_jax.config.study_options import StudyConfig
from tlc_jax.core.errors import UserError
from tlc_jax.parallel.mesh import make_mesh
from tlc_jax.runs.named_begin import parse_init_from
from tlc_jax.runs.teacher import fingerprint
from tlc_jax.storage.paths import parse_path
from tlc_jax.storage.sealed import sha256


def identified(config: StudyConfig, recorded: Sequence[str] = ()) -> StudyConfig:
    """The config with the size and the fingerprint of each of its checkpoints. One that the study has
    `recorded`, perhaps at another path, keeps its size. UserError where a checkpoint cannot be read, is not
    the one with which the study began, is given twice, or has another tokenizer than the first."""
    assert config.finetune is not None or not config.pretrained, "checkpoints are finetuned"
    before = [parse_given(text) for text in recorded]
    given: list[GivenCheckpoint] = []
    tokenizers: dict[str, str] = {}
    for each in config.given:
        if not each.size:
            assert config.finetune is not None
            resolved = parse_init_from(each.reference).resolve(config.finetune)
            tokenizers[each.reference] = sha256(parse_path(str(resolved.data.tokenizer)))
            each = _named(each, resolved, [*before, *given])
        if again := [other for other in given if other.fingerprint == each.fingerprint]:
            raise UserError(f"{each.reference} and {again[0].reference} are the same weights: give them once")
        given.append(each)
    if len(set(tokenizers.values())) > 1:
        raise UserError(
            f"{', '.join(tokenizers)} do not have one tokenizer: give checkpoints of different tokenizers "
            "studies of their own, since what a study compares has the same data"
        )
    return dataclasses.replace(config, pretrained=tuple(map(str, given)))


def check_same(given: GivenCheckpoint, config: Config) -> None:
    """UserError where the checkpoint of a path is another one now."""
    if (now := _fingerprint(given.reference, config)) != given.fingerprint:
        raise _changed(given, now)


def _named(given: GivenCheckpoint, config: Config, others: Sequence[GivenCheckpoint]) -> GivenCheckpoint:
    """The checkpoint with its fingerprint, and its size as the study calls it, which has `others`."""
    mark = _fingerprint(given.reference, config)
    for other in others:
        if other.fingerprint == mark:
            return dataclasses.replace(given, size=other.size, fingerprint=mark)
        if other.reference == given.reference:
            raise _changed(other, mark)
    shape = f"{config.model.num_layers}x{config.model.hidden_size}"
    size = _free_name(shape, given.name, {other.size for other in others})
    return dataclasses.replace(given, size=size, fingerprint=mark)


def _free_name(shape: str, name: str, taken: Collection[str]) -> str:
    """The shape; where another checkpoint has it, with the name of the folder, and a number if need be."""
    words = re.sub(r"[^\w.-]+", "_", name.removeprefix("hf:"), flags=re.ASCII) or "model"
    names = (shape, f"{shape}-{words}", *(f"{shape}-{words}-{number}" for number in range(2, len(taken) + 3)))
    return next(each for each in names if each not in taken)


def _fingerprint(reference: str, config: Config) -> str:
    """That of all weights of a checkpoint."""
    weights = parse_init_from(reference).weights(config.mesh, Console(quiet=True).print)
    return fingerprint(weights, make_mesh(config.mesh))


def _changed(before: GivenCheckpoint, now: str) -> UserError:
    return UserError(
        f"{before.reference} is not the checkpoint {before.size} with which the study began: the fingerprint "
        f"of its weights is {now[:16]}, not {before.fingerprint[:16]}. Restore it, or begin a study of the "
        "new one in a new --workdir"
    )
