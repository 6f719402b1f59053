"""The items of a study: what is measured, trained and compressed, and in which order.

An item has a name, which is also its path below the study's folder, and needs others to be finished first.
Names follow from the config alone, so every process that works on a study has the same items, and a study
grows by a config that asks for more.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Literal

from tlc_jax.config.compression import CompressConfig
from tlc_jax.config.distillations import Distillation, parse_distillation
from tlc_jax.config.given_checkpoints import GivenCheckpoint
from tlc_jax.config.study_options import StudyConfig

Stage = Literal[
    "pretrained",
    "timing",
    "memory",
    "train",
    "branch",
    "finetune",
    "recover",
    "compress",
    "errors",
    "distil",
    "compress_student",
]
Fields = dict[str, str | int | float]
_TIMING = "timing"
_ROUNDS = "-rounds/"
"""Between the names of a model and of its rounds, which are runs beside it."""
_UNTIMED = ("budget.", "optimizer.", "schedule.", "evaluation.", "checkpoint.", "data_share")
"""Parts of a config that an update takes equally long with."""


@dataclass(frozen=True)
class Item:
    """One item. `fields` are the columns that its rows have in common. Items with the same `lease` are done
    by one process, one after the other, since they share a model, or must not disturb each other."""

    name: str
    stage: Stage
    fields: Fields = field(hash=False)
    needs: tuple[str, ...] = ()
    lease: str = ""
    compression: CompressConfig | None = field(default=None, hash=False)

    @property
    def run(self) -> str:
        """The name of the run that is trained, or whose model is compressed."""
        made_of_a_run = self.compresses or self.stage == "errors"
        return self.name.rpartition("/")[0] if made_of_a_run else self.name

    @property
    def compresses(self) -> bool:
        """Whether it is a compressed model; a student's has a stage of its own, since it is compared with
        others in its own exhibit only."""
        return self.stage in ("compress", "compress_student")

    @property
    def unpruned(self) -> str:
        """The name of the run that is pruned in rounds, of an item of stage 'recover' and of those that
        compress what it keeps; '' of others."""
        return self.name.rpartition(_ROUNDS)[0]


def items_of(config: StudyConfig) -> list[Item]:
    """All items of a study, each after those that it needs: the first seed of all sizes comes before the
    second of any."""
    items = list({item.name: item for item in _timings(config)}.values())
    timed = tuple(item.name for item in items)
    items += {item.name: item for item in _memory(config)}.values()
    for checkpoint in config.given:
        items += _of_given(config, checkpoint)
    for seed in config.training_seeds:
        first = seed == config.training_seeds[0]
        for size in (*config.sizes, *(config.oversized if first else ())):
            for variant in config.variants:
                fields: Fields = {"size": size, "variant": variant, "seed": seed, **_equal(config)}
                items += _of_one(config, fields, timed)
        for text in config.distillations:
            items += _distilled(config, parse_distillation(text), seed, timed)
    return items


def _equal(config: StudyConfig) -> Fields:
    """What the runs have in common, where it is not their training time: a column `equal`, and the `target`
    of the primary metric at which they stop."""
    if config.equal == "time":
        return {}
    target = config.train.evaluation.stop_at
    return {"equal": config.equal, **({} if target is None else {"target": target})}


def _timings(config: StudyConfig) -> Iterator[Item]:
    for size in (*config.sizes, *config.oversized) if config.counted_in == "steps" else ():
        for variant in config.variants:
            fields: Fields = {"size": size, "variant": timed_variant(variant)}
            yield Item(_timing_name(size, variant), "timing", fields, lease=_TIMING)
    for text in config.distillations if config.counted_in == "steps" else ():
        each = parse_distillation(text)
        fields = {"size": each.student, "variant": f"taught by {each.teacher}", "teacher": each.teacher}
        yield Item(_student_timing(each.student, each.teacher), "timing", fields, lease=_TIMING)


def _memory(config: StudyConfig) -> Iterator[Item]:
    """The items that ask the compiler for the memory of an update, of variants whose programs differ."""
    for network in config.memory_of:
        for variant in map(timed_variant, config.variants):
            name = f"memory/{_model_name(network, variant)}"
            yield Item(name, "memory", {"network": network, "variant": variant}, lease=name)


def timing_of(item: Item) -> str:
    """The name of the item that measures the time of an update of this item's size and variant."""
    if "teacher" in item.fields:
        return _student_timing(str(item.fields["size"]), str(item.fields["teacher"]))
    return _timing_name(str(item.fields["size"]), str(item.fields["variant"]))


def _student_timing(student: str, teacher: str) -> str:
    return f"{_TIMING}/{student}-of-{teacher}"


def _timing_name(size: str, variant: str) -> str:
    return f"{_TIMING}/{_model_name(size, timed_variant(variant))}"


def timed_variant(variant: str) -> str:
    """The options of a variant that the time of an update may depend on: one timing serves all rates."""
    return ",".join(part for part in variant.split(",") if not part.startswith(_UNTIMED))


def _model_name(size: str, variant: str) -> str:
    return f"{size},{variant}" if variant else size


def _of_one(config: StudyConfig, fields: Fields, timed: tuple[str, ...]) -> Iterator[Item]:
    """The items of one size, variant and seed."""
    variant = str(fields["variant"])
    folder = f"{_model_name(str(fields['size']), variant)}/seed{fields['seed']}"
    trained = f"{folder}/trained"
    yield Item(trained, "train", {**fields, "mark": ""}, timed, trained)
    finished = {"": trained}
    for mark in config.branches_of(variant):
        finished[mark] = f"{folder}/at-{mark.replace('/', '-')}"
        yield Item(finished[mark], "branch", {**fields, "mark": mark}, (trained,), finished[mark])
    if fields["size"] in config.oversized:
        return
    for mark in config.compressed_marks_of(variant):
        runs = folder if mark == [*finished][-1] else finished[mark]
        yield from _of_finished(config, finished[mark], runs, {**fields, "mark": mark})


def _of_given(config: StudyConfig, checkpoint: GivenCheckpoint) -> Iterator[Item]:
    """The items of a checkpoint that is given. It is the same in all of its finetunings, whose seeds are
    those of the trainings that are compared."""
    size = checkpoint.size
    assert size, f"{checkpoint.reference} has been read, which tells its size"
    name = f"{size}/pretrained"
    fields: Fields = {"size": size, "checkpoint": checkpoint.fingerprint}
    yield Item(name, "pretrained", {**fields, "checkpoint_name": checkpoint.name}, (), name)
    yield from _of_finished(config, name, size, {**fields, "variant": "", "mark": ""})


def _distilled(
    config: StudyConfig, distillation: Distillation, seed: int, timed: tuple[str, ...]
) -> Iterator[Item]:
    """A student and its compressions. Its teacher has the same seed, so that seeds are independent."""
    student, teacher, mark = distillation.student, distillation.teacher, distillation.mark
    finished = f"{teacher}/seed{seed}/at-{mark.replace('/', '-')}"
    name = f"{student}-of-{teacher}-at-{mark.replace('/', '-')}/seed{seed}/distilled"
    fields: Fields = {"size": student, "variant": "", "seed": seed, "teacher": teacher, "teacher_mark": mark}
    model = Item(name, "distil", fields, (*timed, finished), name)
    yield model
    for compression in config.compressions():
        compressed = _compression(model, (name,), compression)
        yield replace(compressed, stage="compress_student")


def distillation_of(item: Item) -> Distillation:
    """That of an item of stage 'distil'."""
    fields = item.fields
    return parse_distillation(f"{fields['size']}:{fields['teacher']}@{fields['teacher_mark']}")


def _of_finished(config: StudyConfig, finished: str, runs: str, fields: Fields) -> Iterator[Item]:
    """The items of one finished run: its finetunings, in folders below `runs`, then the compressions of each
    of them, or without finetuning of the run itself."""
    finetuned: list[Item] = []
    for combination, seeds in config.finetunings().items():
        for seed, run in seeds.items():
            name = f"{runs}/{combination}-{seed}"
            more: Fields = {"combination": combination, "finetuning_seed": run.seed}
            if "checkpoint" in fields:
                more["seed"] = run.seed
            finetuned.append(Item(name, "finetune", {**fields, **more}, (finished,), name))
    yield from finetuned
    needs = tuple(item.name for item in finetuned) or (finished,)
    for model in finetuned or [Item(finished, "branch", fields)]:
        for compression in config.compressions():
            yield _compression(model, needs, compression)
        yield from _in_rounds(config, model, needs)
        if config.errors:
            yield Item(f"{model.name}/errors", "errors", model.fields, needs, f"{model.name}/errors")


def _compression(model: Item, needs: tuple[str, ...], compression: CompressConfig) -> Item:
    sparsity, bits = compression.sparsity, compression.bits
    fields: Fields = {"recovered": False, **model.fields, "sparsity": sparsity, "bits": bits}
    name = f"{model.name}/{bits}bits-{_percent(sparsity)}pruned"
    return Item(name, "compress", fields, needs, f"{model.name}/compressed", compression)


def _in_rounds(config: StudyConfig, model: Item, needs: tuple[str, ...]) -> Iterator[Item]:
    """The rounds of pruning with recovery of a model and those of its control, each with the compressions of
    what it keeps. Rounds on the way to another sparsity are not compressed."""
    for level in config.round_levels():
        before = config.round_before(level)
        pruned = replace(config.compression, sparsity=level, recovery=config.recovery)
        about: Fields = {**model.fields, "recovered": True, "sparsity": level}
        earlier = () if before is None else (f"{model.name}{_ROUNDS}pruned-{_percent(before)}",)
        name = f"{model.name}{_ROUNDS}pruned-{_percent(level)}"
        yield from _round(config, Item(name, "recover", about, (*needs, *earlier), name, pruned), pruned)
        if config.recovery is not None and config.recovery.control:
            about = {**model.fields, "recovered": False, "sparsity": 0.0, "as_long_as": level}
            earlier = () if before is None else (f"{model.name}{_ROUNDS}control-{_percent(before)}",)
            control = f"{model.name}{_ROUNDS}control-{_percent(level)}"
            item = Item(control, "recover", about, (*needs, *earlier, name), control, pruned)
            yield from _round(config, item, config.compression)


def _round(config: StudyConfig, item: Item, compression: CompressConfig) -> Iterator[Item]:
    """A round, or that of the control, and the compressions of what it keeps."""
    yield item
    if item.compression is not None and item.compression.sparsity in config.sparsities:
        for bits in config.bits:
            yield _compression(item, (*item.needs, item.name), replace(compression, bits=bits))


def _percent(share: float) -> str:
    """A share in percent, with all of its digits: names of items must differ."""
    return f"{Decimal(repr(float(share))).scaleb(2):f}"
