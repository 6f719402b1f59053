"""Items of checkpoints that a study begins with in place of training: what they are, and how finetunings
begin from them."""

from __future__ import annotations

from tlc_jax.checks.resources import parameters
from tlc_jax.config.given_checkpoints import GivenCheckpoint
from tlc_jax.config.study_options import StudyConfig
from tlc_jax.runs.begin import InitFrom
from tlc_jax.runs.begin_from_folder import InitFromFolder
from tlc_jax.runs.named_begin import parse_init_from
from tlc_jax.studies.identified_checkpoints import check_same
from tlc_jax.studies.item_store import Result
from tlc_jax.studies.items import Item
from tlc_jax.studies.made import made
from tlc_jax.studies.study_folder import StudyFolder


def pretrained_item(item: Item, study: StudyFolder) -> Result:
    """Which checkpoint it is: its fingerprint is in the fields, its row is the number of parameters, with a
    head of two classes."""
    finetune, given = study.config.finetune, given_of(item, study.config)
    assert finetune is not None
    assert given is not None
    check_same(given, finetune)
    count = parameters(finetune, given.reference)
    study.console.print(f"{item.fields['size']}: {given.reference}, {count:,} parameters")
    rows = [{"metric": "parameters", "value": count}]
    return Result(item=item.name, stage=item.stage, fields=item.fields, rows=rows, made=made())


def given_checkpoint(item: Item, study: StudyFolder) -> InitFrom | InitFromFolder | None:
    """How a finetuning of a checkpoint that was given begins; None for that of a run of the study. UserError
    where the checkpoint has changed since the study began."""
    given, finetune = given_of(item, study.config), study.config.finetune
    if given is None or finetune is None:
        return None
    check_same(given, finetune)
    return parse_init_from(given.reference)


def given_of(item: Item, config: StudyConfig) -> GivenCheckpoint | None:
    """The checkpoint that an item rests on; None where the study trains what it does."""
    return next((each for each in config.given if each.size == item.fields.get("size")), None)
