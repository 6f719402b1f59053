"""Recovery items of a study: one round of pruning with recovery (paper 4.3), or its control, the dense model
trained as long. What is kept is what `compress` keeps with the same options."""

from __future__ import annotations

from tlc_jax.compression.pipeline import recipe_of
from tlc_jax.recipes.finished_round import Round
from tlc_jax.recipes.recover import Rounds, open_rounds
from tlc_jax.runs.load import TrainedModel, load_model
from tlc_jax.studies.chosen import chosen_combination
from tlc_jax.studies.finished_run import check_run, kept_by, kept_run
from tlc_jax.studies.item_store import Result, Row
from tlc_jax.studies.items import Item
from tlc_jax.studies.made import made
from tlc_jax.studies.measured import primary_fields
from tlc_jax.studies.study_folder import StudyFolder


def recover_item(item: Item, study: StudyFolder) -> Result:
    """Do the round of an item, or resume it. No rows if the model is that of a finetuning which was not
    chosen. The first row is that before recovery, the last one what is kept."""
    if item.fields.get("combination", "") != chosen_combination(item, study):
        return Result(item=item.name, stage=item.stage, fields=item.fields, rows=[], made=made())
    assert item.compression is not None
    check_run(item.unpruned, study)
    rounds = open_rounds(kept_by(item.unpruned, study), recipe_of(item.compression), study.console)
    do = _prune if item.fields["recovered"] else _train_control
    return Result(
        item=item.name,
        stage=item.stage,
        fields={**item.fields, **primary_fields(rounds.evaluate.metric)},
        rows=do(item, rounds, study),
        made=made(),
        data=study.store.result(item.unpruned).get("data", {}),
    )


def _prune(item: Item, rounds: Rounds, study: StudyFolder) -> list[Row]:
    earlier = _earlier(item, study, recovered=True)
    folder = study.run(item.name).root
    before = _kept(earlier, study) if earlier else rounds.model
    _, done = rounds.prune(len(rounds.levels) - 1, before, folder, study.console)
    return _rows(item, rounds, done, earlier)


def _train_control(item: Item, rounds: Rounds, study: StudyFolder) -> list[Row]:
    earlier, pruned = (_earlier(item, study, recovered=recovered) for recovered in (False, True))
    assert pruned is not None, "a control comes after its round"
    if steps := int(pruned["rows"][-1]["steps"]):
        folder, level = study.run(item.name).root, float(item.fields["as_long_as"])
        before = _kept(earlier, study) if earlier else rounds.model
        _, done = rounds.train_control(level, steps, before, folder, study.console)
        return _rows(item, rounds, done, earlier)
    unchanged: Row = {
        **_of_set(rounds),
        "value": rounds.dense,
        "step": rounds.model.step,
        "recovery_steps": 0,
        "recovery_seconds": 0.0,
        "kept_run": kept_run(study.store.result(item.unpruned)),
        **(earlier["rows"][-1] if earlier else {}),
    }
    return [{**unchanged, "steps": 0, "training_seconds": 0.0, "last": True}]


def _earlier(item: Item, study: StudyFolder, *, recovered: bool) -> Result | None:
    """The round that an item needs: of pruning, or of the control."""
    results = (study.store.result(need) for need in item.needs)
    of_kind = [r for r in results if r["stage"] == "recover" and r["fields"]["recovered"] == recovered]
    return of_kind[-1] if of_kind else None


def _kept(earlier: Result, study: StudyFolder) -> TrainedModel:
    check_run(earlier["item"], study)
    return load_model(kept_by(earlier["item"], study), warn=study.console.print)


def _rows(item: Item, rounds: Rounds, done: Round, earlier: Result | None) -> list[Row]:
    """`steps` and `training_seconds` are those of the round, `recovery_steps` and `recovery_seconds` those of
    all rounds so far; the parameters after `step` updates are kept."""
    before = earlier["rows"][-1] if earlier else {"recovery_steps": 0, "recovery_seconds": 0.0}
    _, mark, kept = done.reference.rpartition("@")
    return [
        {**_of_set(rounds), "value": done.pruned, "step": 0, "training_seconds": 0.0, "last": False},
        {
            **_of_set(rounds),
            "value": done.recovered,
            "step": done.kept_step,
            "steps": done.steps,
            "training_seconds": done.training_seconds,
            "recovery_steps": before["recovery_steps"] + done.steps,
            "recovery_seconds": before["recovery_seconds"] + done.training_seconds,
            "kept_run": f"{item.name}@{kept}" if mark else item.name,
            "last": True,
        },
    ]


def _of_set(rounds: Rounds) -> Row:
    _, name, metric = rounds.evaluate.key.split("/", 2)
    return {"set": name, "metric": metric}
